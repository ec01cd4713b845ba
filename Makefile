# Each target makes its own virtual environment; a C++ compiler and Python 3.11 are all it needs.
PYTHON ?= python3
# Tests need no GPU, and the plain "torch" of PyPI brings gigabytes of CUDA; any torch>=2.6 will do.
TORCH ?= torch==2.13.0
# make demo PHOTO=path/to/photo.jpg adds a photo of your own
PHOTO ?=
# make results PICTURES=folder: rate and distortion of the bundled model on the pictures of a folder
PICTURES ?= ../shared/data/kodak
# make test-arm ARM_ZLIB=folder/usr: with the C library
ARM_ZLIB ?=
# make reproduce-bundle DATA=folder MINUTES=...: train, search levels and export on photos of a folder
DATA ?= ../shared/data/train
MINUTES ?= 120
# more options of basic-train run; on a GPU: TRAIN_ARGS='--batch 256 --muon-rate 0.008'
TRAIN_ARGS ?=
# level 0 as a net of its own: how long it trains
LEVEL0_MINUTES ?= 70
BESIDE_MINUTES ?= 75
ENCODER_MINUTES ?= 97
ANALYSIS_MINUTES ?= 40
RUN ?= runs/lite
PYTEST_ARGS ?=
# Neighbours, which share fixtures, stay in one process as long as the other has work.
SIDE_BY_SIDE = -n 2 --dist worksteal
FUZZ_SECONDS ?= 60
# a clang with its libFuzzer runtime
CLANGXX ?= clang++-16

.PHONY: build-web/basic-codec.wasm help demo wheel codec wasm test test-desktop test-gpu test-nightly test-cpp test-web test-arm test-windows wheel-windows test-lowest lint bench results reproduce-bundle sanitize fuzz clean

help:
	@echo "make demo [PHOTO=path]  encode and decode photos with the bundled model, beside JPEG and WebP"
	@echo "make test               the whole test suite (PYTEST_ARGS=... go to pytest)"
	@echo "make test-gpu           the tests that need an NVIDIA GPU (docs/gpu.md)"
	@echo "make test-nightly       the tests that take minutes: engines of preset paper"
	@echo "make lint               ruff and mypy"
	@echo "make bench              speed: coder, levels, transforms and stages, beside others' (docs/performance.md)"
	@echo "make results [PICTURES=folder]  rate and distortion beside other codecs, and times, into docs/results"
	@echo "make reproduce-bundle [DATA=folder MINUTES=120 LEVEL0_MINUTES=70 BESIDE_MINUTES=75 ENCODER_MINUTES=97 ANALYSIS_MINUTES=40 RUN=runs/lite TRAIN_ARGS=...]  photos to bundle, as the bundled model was made"
	@echo "make wheel              a manylinux wheel, in dist"
	@echo "make wheel-windows      a wheel for 64-bit Windows and CPython 3.11, in dist; Wine tests it"
	@echo "make codec              decoder and encoder without Python, in build-codec (docs/c-library.md)"
	@echo "make wasm               the codec for browsers that the package ships (needs emscripten 3.1.6)"
	@echo "make test-lowest        a picture and back with the lowest versions of the dependencies"
	@echo "make test-cpp           C++ tests of the code as it ships"
	@echo "make test-web           the codec for browsers, in Node: pixels and files of the package"
	@echo "make test-desktop       .basic files in gdk-pixbuf, which desktops show pictures with (docs/desktop.md)"
	@echo "make test-arm           C++ tests on an emulated 64-bit ARM"
	@echo "make test-windows       the codec without Python as Windows programs, run by Wine"
	@echo "make sanitize           C++ tests under AddressSanitizer, UBSan and, where there are threads, ThreadSanitizer"
	@echo "make fuzz               libFuzzer on the entropy decoder, on files and on pictures (needs clang)"

SOURCES = pyproject.toml setup.py MANIFEST.in CMakeLists.txt README.md \
          $(shell find cpp basic_runtime basic_train basic_export -type f -not -name '*.pyc' -not -name '*.so')

# build/lib* goes first: setuptools would pack modules there that the sources no longer have.
.venv-demo/.installed: $(SOURCES)
	test -x .venv-demo/bin/python || $(PYTHON) -m venv .venv-demo
	rm -rf build/lib*
	.venv-demo/bin/pip install --quiet '.[demo]'
	touch $@

.venv-test/.installed: $(SOURCES)
	test -x .venv-test/bin/python || $(PYTHON) -m venv .venv-test
	.venv-test/bin/python -c "import torch" 2>/dev/null || .venv-test/bin/pip install --quiet '$(TORCH)'
	rm -rf build/lib*
	.venv-test/bin/pip install --quiet '.[dev]'
	touch $@

demo: .venv-demo/.installed
	.venv-demo/bin/python -P -m basic_runtime.demo $(PHOTO)

test: codec
	OMP_NUM_THREADS=1 .venv-test/bin/pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

# With the classic TensorRT, too: pip install it into .venv-test first, from NVIDIA's index.
test-gpu: .venv-test/.installed
	.venv-test/bin/pytest -m gpu $(PYTEST_ARGS)

test-nightly: .venv-test/.installed
	OMP_NUM_THREADS=1 .venv-test/bin/pytest -m nightly $(PYTEST_ARGS)

lint: .venv-test/.installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

# The peers pin older libraries, so they get an environment of their own.
.venv-bench/.installed: $(SOURCES)
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -c "import torch" 2>/dev/null || .venv-bench/bin/pip install --quiet '$(TORCH)'
	rm -rf build/lib*
	.venv-bench/bin/pip install --quiet '.[onnxruntime,openvino]' compressai constriction onnx
	touch $@

bench: .venv-bench/.installed
	.venv-bench/bin/python -P -W ignore benchmarks/coder.py
	.venv-bench/bin/python -P benchmarks/cost_table.py
	.venv-bench/bin/python -P benchmarks/entropy_path.py
	.venv-bench/bin/python -P -W ignore benchmarks/transforms.py
	.venv-bench/bin/python -P -W ignore benchmarks/stages.py

results: .venv-test/.installed
	.venv-test/bin/basic-run profile --json --plot docs/results/profile.png --overwrite > docs/results/profile.json
	.venv-test/bin/basic-run evaluate $(PICTURES) -o docs/results/$(notdir $(PICTURES))
	.venv-test/bin/python -P benchmarks/readme_table.py docs/results/$(notdir $(PICTURES)).json docs/results/profile.json

# The same command goes on with a run that was stopped.
reproduce-bundle: .venv-test/.installed
	.venv-test/bin/basic-train run --recipe lite --data $(DATA) -o $(RUN) --minutes $(MINUTES) $(TRAIN_ARGS)
	.venv-test/bin/basic-train levels $(RUN) --data $(DATA) -o $(RUN)/levels.safetensors \
	    --first-share 0.1 --half --overwrite
	.venv-test/bin/basic-export $(RUN)/levels.safetensors -o $(RUN)/supernet --name lite-supernet --data $(DATA) --overwrite
	.venv-test/bin/basic-train narrow $(RUN)/levels.safetensors --level 0 --data $(DATA) -o $(RUN)/level0.safetensors --overwrite \
	    --model quarter_blocks=1 --model eighth_blocks=4 --model latent_blocks=0 \
	    --model 'contexts=[{context=48,hidden1=64,hidden2=48}]'
	.venv-test/bin/basic-train run --recipe lite --data $(DATA) -o $(RUN)/level0 --minutes $(LEVEL0_MINUTES) \
	    --start-from $(RUN)/level0.safetensors --freeze gains,z_prior --revive 0 --batch 32 \
	    --muon-rate 0.006 --learning-rate 0.0006 --warmup-steps 50 --ema 0.998
	.venv-test/bin/basic-train run --recipe lite --data $(DATA) -o $(RUN)/beside --minutes $(BESIDE_MINUTES) \
	    --start-from $(RUN)/level0 --freeze gains,z_prior --objective interchange --beside $(RUN)/levels.safetensors \
	    --full-share 0.3 --batch 32 --muon-rate 0.004 --learning-rate 0.0004 --warmup-steps 50 --ema 0.998
	.venv-test/bin/basic-export $(RUN)/supernet --level 0=$(RUN)/beside -o $(RUN)/own-level --name lite --data $(DATA) --overwrite
	.venv-test/bin/basic-train run --recipe lite --data $(DATA) -o $(RUN)/encoder --minutes $(ENCODER_MINUTES) \
	    --start-from $(RUN)/levels.safetensors --freeze h_s,g_s,context,gains,z_prior --revive 0 --full-share 1.0 --batch 32 \
	    --muon-rate 0.004 --learning-rate 0.0004 --warmup-steps 30 --ema 0.998
	.venv-test/bin/basic-export $(RUN)/own-level --encoder 7=$(RUN)/encoder -o $(RUN)/encoder-7 --data $(DATA) --overwrite \
	    --prune 0.15 --weight-bits 6
	for level in 6 3 1; do \
	    .venv-test/bin/basic-train narrow $(RUN)/levels.safetensors --level $$level --data $(DATA) -o $(RUN)/narrow-$$level.safetensors \
	        --overwrite && \
	    .venv-test/bin/basic-train run --recipe lite --data $(DATA) -o $(RUN)/analysis-$$level --minutes $(ANALYSIS_MINUTES) \
	        --start-from $(RUN)/narrow-$$level.safetensors --freeze h_a,h_s,g_s,context,gains,z_prior --revive 0 --full-share 1.0 \
	        --batch 32 --muon-rate 0.004 --learning-rate 0.0004 --warmup-steps 30 --ema 0.998 || exit 1; \
	done
	.venv-test/bin/basic-export $(RUN)/encoder-7 --encoder 6=$(RUN)/analysis-6 -o $(RUN)/encoder-6 --data $(DATA) --overwrite \
	    --keep-hyper --prune 0.25 --weight-bits 5
	.venv-test/bin/basic-export $(RUN)/encoder-6 --encoder 3=$(RUN)/analysis-3 -o $(RUN)/encoder-3 --data $(DATA) --overwrite \
	    --keep-hyper --prune 0.13 --weight-bits 5
	.venv-test/bin/basic-export $(RUN)/encoder-3 --encoder 1=$(RUN)/analysis-1 -o $(RUN)/bundle --data $(DATA) --overwrite \
	    --keep-hyper --weight-bits 8

# Its tag says which Linux it is for: that of the machine which builds it, and later ones (PEP 600).
wheel: .venv-test/.installed
	rm -rf build/lib* build/wheel dist
	.venv-test/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	PATH=$(CURDIR)/.venv-test/bin:$$PATH .venv-test/bin/auditwheel repair --wheel-dir dist build/wheel/*.whl

wheel-windows: wheel
	.ci/windows-python

CMAKE = .venv-test/bin/cmake
NINJA = -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv-test/bin/ninja

codec: .venv-test/.installed
	$(CMAKE) -S . -B build-codec $(NINJA) -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_CODEC=ON
	$(CMAKE) --build build-codec --parallel 2

# Needs gdk-pixbuf with its headers, and shared-mime-info (Debian: libgdk-pixbuf-2.0-dev libgdk-pixbuf2.0-bin shared-mime-info).
test-desktop: .venv-test/.installed
	rm -rf build-desktop/installed && mkdir -p build-desktop
	.venv-test/bin/basic-run pack --levels 0-7 --earlier -o build-desktop/lite-11.basicmodel --overwrite
	$(CMAKE) -S . -B build-desktop $(NINJA) -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_CODEC=ON -DBASIC_DESKTOP=ON \
	    -DBASIC_DESKTOP_MODEL=$(CURDIR)/build-desktop/lite-11.basicmodel -DBASIC_TESTS=ON
	$(CMAKE) --build build-desktop --parallel 2
	$(CMAKE) --install build-desktop --prefix $(CURDIR)/build-desktop/installed
	.venv-test/bin/pytest -m desktop tests/c_codec

# emcc of Debian does not find its JavaScript by itself.
build-web/basic-codec.wasm: .venv-test/.installed
	NODE_PATH=$$NODE_PATH:/usr/share/nodejs; export NODE_PATH; \
	    emcmake $(CMAKE) -S . -B build-web $(NINJA) -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_CODEC=ON && \
	    $(CMAKE) --build build-web --parallel 2

# What the package ships. The same emscripten gives the same bytes, wherever it runs.
wasm: build-web/basic-codec.wasm
	cp $< basic_runtime/web

test-web: build-web/basic-codec.wasm
	emcc --version | head -1
	cmp $< basic_runtime/web/basic-codec.wasm || \
	    { echo "basic_runtime/web holds another program than its sources give: make wasm, with emscripten 3.1.6"; exit 1; }
	OMP_NUM_THREADS=1 .venv-test/bin/pytest $(SIDE_BY_SIDE) -m web tests/c_codec

# What the C functions are tested on: files of several models.
build-%/test.basicmodel: .venv-test/.installed
	mkdir -p $(@D)
	.venv-test/bin/basic-run pack --levels 0,7 --earlier --encoders -o $@ --overwrite

# The wheel with the lowest versions of what pyproject.toml asks for: a picture goes to a file and back, with the engine, too.
test-lowest: wheel
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) -c "import tomllib; \
	    project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
	    asked = project['dependencies'] + project['optional-dependencies']['onnxruntime']; \
	    print(*(line.replace('>=', '==') for line in asked), sep='\n')" > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/constraints.txt dist/*.whl
	.venv-lowest/bin/basic-run --version
	.venv-lowest/bin/basic-run encode docs/demo.jpg -o .venv-lowest/a.basic --level 0 --effort 2
	.venv-lowest/bin/basic-run decode .venv-lowest/a.basic -o .venv-lowest/own.png
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/constraints.txt "$$(echo dist/*.whl)[onnxruntime]"
	.venv-lowest/bin/basic-run decode .venv-lowest/a.basic -o .venv-lowest/engine.png --engine onnxruntime

# As it ships, which sanitizers change: all versions of functions, each for its processors, and no warnings.
test-cpp: .venv-test/.installed build-cpp/test.basicmodel
	.venv-test/bin/cmake -S . -B build-cpp -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv-test/bin/ninja \
	    -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_TESTS=ON -DBASIC_CODEC=ON \
	    -DCMAKE_CXX_FLAGS="-Werror -Wno-error=maybe-uninitialized"  # of which gcc 12 is wrong
	.venv-test/bin/cmake --build build-cpp --parallel 2
	.venv-test/bin/ctest --test-dir build-cpp --output-on-failure
	build-cpp/codec_test build-cpp/test.basicmodel tests/golden/earlier/*.basic
	.venv-test/bin/cmake --install build-cpp --prefix $(CURDIR)/build-cpp/installed
	$(CC) -std=c99 -Wall -Wextra -Wpedantic -Werror cpp/examples/there_and_back.c -o build-cpp/there_and_back \
	    -Ibuild-cpp/installed/include -Lbuild-cpp/installed/lib -lbasic_codec -Wl,-rpath,$(CURDIR)/build-cpp/installed/lib
	build-cpp/there_and_back build-cpp/test.basicmodel tests/golden/earlier/lite-10-level0.basic build-cpp/again.basic 20
	build-cpp/installed/bin/basic-decode --info build-cpp/again.basic

# For other systems than this, whose libraries would be found.
NO_PICTURES = -DCMAKE_DISABLE_FIND_PACKAGE_PNG=ON -DCMAKE_DISABLE_FIND_PACKAGE_JPEG=ON

# The NEON kernels, on an emulated processor; needs aarch64-linux-gnu-g++ and qemu-aarch64-static.
# .ci/arm-python does the same with the golden files and the whole runtime.
# With ARM_ZLIB, the folder usr of Debian's zlib1g-dev:arm64, the C library, too: its files and pixels are those of this machine.
ARM_CODEC = -DBASIC_CODEC=ON -DZLIB_INCLUDE_DIR=$(ARM_ZLIB)/include -DZLIB_LIBRARY=$(ARM_ZLIB)/lib/aarch64-linux-gnu/libz.a \
    $(NO_PICTURES)
ARM_RUN = qemu-aarch64-static -L /usr/aarch64-linux-gnu build-arm/cpp
test-arm: .venv-test/.installed $(if $(ARM_ZLIB),codec build-arm/test.basicmodel)
	.venv-test/bin/cmake -S . -B build-arm/cpp -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv-test/bin/ninja \
	    -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
	    -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64-static;-L;/usr/aarch64-linux-gnu" \
	    -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_TESTS=ON $(if $(ARM_ZLIB),$(ARM_CODEC))
	.venv-test/bin/cmake --build build-arm/cpp --parallel 2
	.venv-test/bin/ctest --test-dir build-arm/cpp --output-on-failure --parallel 2
ifneq ($(ARM_ZLIB),)
	$(ARM_RUN)/codec_test build-arm/test.basicmodel tests/golden/earlier/*-level0.basic
	for level in 0 7; do \
	    $(ARM_RUN)/basic-decode build-arm/test.basicmodel tests/golden/earlier/lite-10-level$$level.basic build-arm/arm.ppm --overwrite && \
	    build-codec/basic-decode build-arm/test.basicmodel tests/golden/earlier/lite-10-level$$level.basic build-arm/here.ppm --overwrite && \
	    cmp build-arm/arm.ppm build-arm/here.ppm && \
	    $(ARM_RUN)/basic-encode build-arm/test.basicmodel build-arm/here.ppm build-arm/arm.basic --level $$level --overwrite && \
	    build-codec/basic-encode build-arm/test.basicmodel build-arm/here.ppm build-arm/here.basic --level $$level --overwrite && \
	    cmp build-arm/arm.basic build-arm/here.basic || exit 1; \
	done
endif

# Needs mingw-w64's g++ for x86-64 with POSIX threads, its zlib, and Wine (Debian: g++-mingw-w64-x86-64-posix, libz-mingw-w64-dev, wine).
MINGW = x86_64-w64-mingw32
test-windows: export WINEPREFIX = $(CURDIR)/build-windows/wine
test-windows: export WINEDEBUG = -all
test-windows: .venv-test/.installed build-windows/test.basicmodel
	$(CMAKE) -S . -B build-windows/cpp $(NINJA) -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_CXX_COMPILER=$(MINGW)-g++-posix \
	    -DCMAKE_CROSSCOMPILING_EMULATOR=wine -DCMAKE_EXE_LINKER_FLAGS=-static -DCMAKE_SHARED_LINKER_FLAGS=-static \
	    -DZLIB_INCLUDE_DIR=/usr/$(MINGW)/include -DZLIB_LIBRARY=/usr/$(MINGW)/lib/libz.a \
	    $(NO_PICTURES) -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_TESTS=ON -DBASIC_CODEC=ON
	$(CMAKE) --build build-windows/cpp --parallel 2
	$(CMAKE) --install build-windows/cpp --prefix $(CURDIR)/build-windows/installed
	$(MINGW)-gcc-posix -std=c99 -Wall -Wextra -Wpedantic -Werror cpp/examples/there_and_back.c -o build-windows/installed/bin/there_and_back.exe \
	    -Ibuild-windows/installed/include -Lbuild-windows/installed/lib -lbasic_codec
	mkdir -p $(WINEPREFIX)
	-wineserver -k  # of a run that failed
	wineserver -p </dev/null >/dev/null 2>&1  # it stays, and so do the services that the first program starts, which would keep a test's pipes open
	wine build-windows/cpp/basic-decode.exe --version </dev/null >/dev/null 2>&1
	.venv-test/bin/ctest --test-dir build-windows/cpp --output-on-failure
	wine build-windows/cpp/codec_test.exe build-windows/test.basicmodel tests/golden/earlier/*.basic
	wine build-windows/installed/bin/there_and_back.exe build-windows/test.basicmodel tests/golden/earlier/lite-10-level0.basic build-windows/again.basic 20
	wine build-windows/cpp/basic-encode.exe build-windows/test.basicmodel docs/demo.jpg - 2>&1 | grep "JPEG is not read, as this program was built without libjpeg"
	wine build-windows/cpp/basic-decode.exe --info 'tests/golden/earlier/*-level7.basic' >build-windows/told
	test $$(grep -c "level 7" build-windows/told) = $$(ls tests/golden/earlier/*-level7.basic | wc -l)
	BASIC_CODEC_RUN=wine BASIC_CODEC_BUILD=build-windows/cpp OMP_NUM_THREADS=1 .venv-test/bin/pytest $(SIDE_BY_SIDE) \
	    $(addprefix tests/c_codec/test_,decode_command.py encode_command.py several_files.py)
	wineserver -k

sanitize: .venv-test/.installed build-sanitize/test.basicmodel
	.venv-test/bin/cmake -S . -B build-sanitize -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv-test/bin/ninja \
	    -DCMAKE_BUILD_TYPE=Debug -DBASIC_PYTHON=OFF -DBASIC_TESTS=ON -DBASIC_CODEC=ON -DBASIC_SANITIZE=ON
	.venv-test/bin/cmake --build build-sanitize --parallel 2
	.venv-test/bin/ctest --test-dir build-sanitize --output-on-failure --parallel 2
	build-sanitize/codec_test build-sanitize/test.basicmodel tests/golden/earlier/*.basic
	BASIC_CODEC_BUILD=build-sanitize OMP_NUM_THREADS=1 .venv-test/bin/pytest $(SIDE_BY_SIDE) tests/c_codec
	.venv-test/bin/cmake -S . -B build-tsan -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv-test/bin/ninja \
	    -DCMAKE_BUILD_TYPE=Release -DBASIC_PYTHON=OFF -DBASIC_TESTS=ON -DBASIC_CODEC=ON -DBASIC_TSAN=ON
	.venv-test/bin/cmake --build build-tsan --parallel 2 --target \
	    coder_test integer_net_test integer_stream_test winograd_test convert_test png_pixels_test post_filter_test codec_test
	build-tsan/codec_test build-sanitize/test.basicmodel tests/golden/earlier/*-level0.basic
	build-tsan/coder_test threads
	.venv-test/bin/ctest --test-dir build-tsan --output-on-failure --parallel 2 \
	    --tests-regex '^(integer_net|integer_stream|winograd|convert|png_pixels|post_filter)$$'

fuzz: .venv-test/.installed
	.venv-test/bin/cmake -S . -B build-fuzz -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/.venv-test/bin/ninja \
	    -DCMAKE_CXX_COMPILER=$(CLANGXX) -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	    -DBASIC_PYTHON=OFF -DBASIC_TESTS=OFF -DBASIC_CODEC=ON -DBASIC_FUZZ=ON
	.venv-test/bin/cmake --build build-fuzz --parallel 2 --target coder_fuzz container_fuzz picture_fuzz
	mkdir -p build-fuzz/corpus build-fuzz/files build-fuzz/pictures
	build-fuzz/coder_fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 build-fuzz/corpus
	for file in tests/golden/*.basic; do printf '\1' | cat - $$file > build-fuzz/files/$$(basename $$file); done
	build-fuzz/container_fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 build-fuzz/files
	PYTHONPATH=tests/c_codec .venv-test/bin/python tests/c_codec/pictures.py build-fuzz/pictures
	build-fuzz/picture_fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 build-fuzz/pictures

clean:
	rm -rf build build-* dist *.egg-info .venv-demo .venv-test .venv-bench .venv-lowest
