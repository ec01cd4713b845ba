"""Streams written by version 1 of the format, which must decode to the same symbols for ever."""

from __future__ import annotations

import numpy as np
import pytest

from basic_runtime.coder import Decoder, Encoder

from .conftest import extreme_rows

TABLES = extreme_rows().coder_tables()
ROWS = [2, 3, 5, 4, 0, 1]


def stages(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Three stages of count, 1 and count // 3 symbols by an integer recipe; a few escape, two are extreme."""
    result = []
    state = count
    for size in (count, 1, count // 3):
        symbols, indexes = [], []
        for _ in range(size):
            state = (state * 1103515245 + 12345) % 2**31
            indexes.append(ROWS[state >> 28 if state >> 28 < 6 else 0])
            symbols.append((state >> 16) % 4 - 1 if (state >> 8) % 32 else (state >> 16) % 3001 - 1500)
        result.append((np.array(symbols, np.int32), np.array(indexes, np.uint8)))
    result[0][0][:2] = -(2**31), 2**31 - 1
    return result


GOLDEN = {
    (2, 1): "0810c1bf560001000080ffffff3f00000020feffff2f",
    (40, 1): """
        0831ff8f0b00f01f0a38ff1ffb77fffffc8fffff0908fe8760c703b8d0afdf574133ed5fff7f0000feff902c0000
        f0ff0f002000000020000000000060e03f009d891860994ccf028c8c480d983c35c3932b654600
    """,
    (40, 2): """
        093131ffdf1300fd2fa0d90e98f3cb91f20fc0ceafc41c7cf502e8223e930525a0bc8f5d40ff7f0000feff902c00
        00f0ff0f002000000020000000000060e03f009d891860994ccf028c8c480d983c35c3932b654600
    """,
    (90, 4): """
        0a6e4cff6f8400ff8f3c00877ff80f3b35d0091bf40608f7f7ffaf44a759de54302ef653affa5f521d0d48096c99
        bf2a692c0817281af85b706dfdf8af310f0128d3c1ff0fbfafff5ffff74abfc00ff499ffef01000140feff9a8128
        000001000040ffff470090004000000020e0ffff0f000000f8ffffff471cc042449f456c1a11c0d0b9599693110a
        909b03a02de6e40700080000003a002055d3ccb301
    """,
    (150, 8): """
        0baf0172a25f5505143801001fe03a02ff0fae001c781e29071d0d0078450900100805000ea8f6078dee02261330
        3a0b63020bc8dcdafc6f1450039ef0875637bf5f1dc812f5120009080a020908c90f29c00e6004d8ff97e3b1d37c
        ee230b502a08094867cb6a9d5c8d08f86c140cb8fff70f180f68fa173930f32715b821582fd8092807000800feff
        ff7ffcff0500020001400200018000800000a17d04007e4100000010005c00800040100010000400000001000180
        9a5effff07000000feffffff00000080f8ffff3f6996a51111a402700fa967a60f402947a84479441ec0a69369b6
        67ff7f01808243ffff2c4253b38d3807
    """,
    (900, 64): """
        0ec907c104ff0f1805fb9f2f00dfdf542cb6cb6f080ee05a00faf74c01df6f030018a80dda3582230effaf0900a5
        af140001a8230010e6ef2158431e0fff5fd400dd73b44a61de2200934d530247c4a9917ee55c8d2bc80200a57f09
        000df80100bded5b2cb0069402d9933d04ffffff522128308a05403100ac1ee500dc9bbd000b080100b93f03001f
        3d1286f0fc4f01fce7c200f55720014f800200bacc552affdf14002ff80f48854d22c3e4313003ffcf2701cacaae
        01238ba900cfaf0a0205224706fa770100e9afaeb20618ec9c07b80f05ff9f7b610848400212d8211e0f880300ff
        ef43031d50d1080f880c00523802000438c007900ff900a9dfbe64a2cdd50415080ff8bbafbc560550524635bcff
        effa7c03d8fe27f1afa4083d0d87ce02b89f9c0ff826fae6afa3f7ff8f8cd948b03870ffcf850bde4f0aa81a5412
        7ece3f87edf4076fbcc84f05708eb2d62f8fbea971a34bfd37a97e0ff81774f1272b17d29fd1020ff8ff8f05f803
        28283ece57d04d1d4007a8cb4f2620dfdf24c84a108d7d2108f3f606a8400e28600fc0b36ea60057a01b2858e0ff
        2f44d088b52cc0e90c223817922818bc150108ff4f15c0ad0f0b28a9f47bf596f645bd83adbfa7ff1f7bb4ed95c1
        5f620dc7afff4fa1bf16b0ffdf01c847e00f2843d0e990ff7da451f9be5b905fdbffffa16f4707f8b943730e0876
        5a5b10cc7aa34f3b14a14f512a32200ad873c6e3af2c500a28741ef8dd56a423fc368b5020df4fffffdfafb3f207
        f83a4dff4fffcff10720b8d2bfca51ffffb42d13e8ff8ff4a9136caaff05b8e79c4b50e452a63f40eebfdf5f80f0
        e22220ad848349f2f70f1889cef2f78bbc06b822e897fc5941f8870f6856bd26f835d07ab073bf03812bd0f18fa7
        defe0faf16ffff200a2742f0ff0af809bce065ddb5d3b7987a13f0f5f8fe1282e9f77f02e80a70b95f43a5f5e7ff
        4fe4bff97f66ede8afff8f01e8e4af0cd00f185fc0845e47a008581b30515081cc1dff18b8ff8f14c80ff8fff7a4
        0fc70fff8fff1f2ff84d57117818fdffbf00000500024800f0ffffff070002000100004000000010280180ffffff
        5f00f0ff07000000904000800080feffbf1200f8ffffff7f01c0ffff0100000000000080ebff2f01c0ff3f208100
        c0ffdf0200014004001000080002018000000070fcff03008200e0ffafe000802800000000a40300feff47000001
        00014002000200080004000000fcfaffe7ff1f00407249d12f00400400ffffff7f00e0ff2ffdff0500c8ff3f0020
        000800e8ff2f00d00100ff7f45000000802400f8ff0b000200b9ae00c0ff3f000000000004001001000200380020
        ffff0000f0ff1700fcff1501c00100ff7f00809208009409ffff00c005000f120010f00f00000018f8ffff0b4040
        991a611e17806765640ed0ae01eae799aa2400ef6503a862466a9e1b61849246786600f7196166be116a0401f067
        6aae04a04d9a1a1111d0659603206e417c04209c699ae579005262666a2ae500b49da7aaea797a00e15196661a11
        11a13a606fae1167a6aa9a9e7b841bf0259d02f07f96a6a96aae469c53a6649a4d4e9280bb11662a697ea600fc99
        9b65e600bc29794e1a410a80c07876aa9a6a2a000e1691ab29ad6a8479007bad9a53ba6e4a6606d0569ea5061093
        0029ffffe80d20007800e0ff9ffcff1100f8ff0b000000471e00f805009f0d04009447110000ffff030000004dfb
        0000905f780020f9ff2b01802400f0ff0f0024f8ff0300f2ff0f004800f0ffd76c49f3cc2c82cc4cd3344bcd3f80
        cd689fb22c3793c83c5b235401cacd23f2dce0ccdd08013c334f35c04b8f08605acd35d5883c5b337301
    """,
}


@pytest.mark.parametrize(("count", "lanes"), GOLDEN)
def test_golden_streams_decode(count: int, lanes: int) -> None:
    decoder = Decoder(TABLES, bytes.fromhex(GOLDEN[count, lanes]))
    assert decoder.lanes == lanes
    for symbols, indexes in stages(count):
        np.testing.assert_array_equal(decoder.get(indexes), symbols)
    decoder.finish()


@pytest.mark.parametrize(("count", "lanes"), GOLDEN)
def test_encoder_writes_golden_streams(count: int, lanes: int) -> None:
    """Another encoder may write other valid bytes; this one has no reason to."""
    encoder = Encoder(TABLES)
    for stage in stages(count):
        encoder.put(*stage)
    assert encoder.finish(lanes).hex() == GOLDEN[count, lanes].replace(" ", "").replace("\n", "")
