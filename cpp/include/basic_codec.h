/* Decodes and encodes .basic files without Python: a C library.
 *
 *     basic_model* model = NULL;
 *     basic_picture picture;
 *     char error[BASIC_ERROR_SIZE];
 *     if (basic_model_open(bytes, size, 0, &model, error) != BASIC_OK) ...      made by basic-run pack
 *     if (basic_decode(model, file, file_size, NULL, &picture, error) == BASIC_OK) {
 *         ... picture.pixels, picture.width, picture.height, picture.channels ...
 *         basic_picture_free(&picture);
 *     }
 *     basic_model_free(model);
 *
 * A model may be used by several threads at once. Any processor decodes a file to the same pixels and encodes pixels to the same
 * file, byte for byte: those of basic-run. docs/c-library.md tells how to build and link it.
 *
 * On processors with AMX, Linux is asked for their registers, and refuses small stacks of signals (sigaltstack) from then on;
 * it is not where the environment variable BASIC_DOTS_KERNEL is avx512vnni. */
#ifndef BASIC_CODEC_H
#define BASIC_CODEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(BASIC_CODEC_IS_BUILT)
#define BASIC_API __declspec(dllexport)
#elif defined(__GNUC__) && !defined(_WIN32)
#define BASIC_API __attribute__((visibility("default")))
#else
#define BASIC_API
#endif

typedef enum basic_status {
    BASIC_OK = 0,
    BASIC_BAD_ARGUMENT = 1,
    BASIC_DAMAGED = 2,     /* the file, or the model, is no such file, is cut off or damaged */
    BASIC_TOO_LARGE = 3,   /* a limit forbids it: see basic_options */
    BASIC_WRONG_MODEL = 4, /* the file needs another model, or more of this one than was packed */
    BASIC_DESYNC = 5,      /* other latents were decoded than the encoder had: never shown as a picture */
    BASIC_NO_MEMORY = 6,
    BASIC_INTERNAL = 7
} basic_status;

/* Functions that can fail write one line of text, with its terminating zero, into `error`: room for this many bytes, or
 * NULL. */
#define BASIC_ERROR_SIZE 256

typedef struct basic_model basic_model;

/* A packed model, docs/model-file.md. `bytes` are copied. `threads`: how many one decode may use, 0 for as many as there are
 * processors. */
BASIC_API basic_status basic_model_open(const void* bytes, size_t size, unsigned threads, basic_model** model, char* error);
BASIC_API void basic_model_free(basic_model* model);

typedef struct basic_info {
    uint32_t width, height; /* as stored: EXIF may say that a viewer turns the picture */
    int gray, alpha;        /* whether it is gray, and whether it has alpha */
    int level;              /* at which it was made */
    int decode_level;       /* which its maker suggests for decoding */
    int quality_step;       /* 0 to 63 */
    char model_name[16];
    char model_id[9]; /* 8 hexadecimal digits */
} basic_info;

/* What a file is. All of its checksums are checked, but nothing is decoded. */
BASIC_API basic_status basic_read_info(const void* file, size_t size, basic_info* info, char* error);

typedef struct basic_options {
    int level;           /* 0 to 7: how much decoding computes; -1: what the file suggests, or the nearest in the model */
    int channels;        /* 0: as the picture has them; 3 or 4: RGB or RGBA in any case */
    uint64_t max_pixels; /* largest picture; 0: 128,000,000 */
} basic_options;

/* What was decoded, or is to be encoded. */
typedef struct basic_picture {
    uint32_t width, height;
    uint32_t channels; /* bytes per pixel: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA; alpha is straight */
    uint8_t* pixels;   /* height rows of width * channels bytes */
    uint8_t *icc, *exif, *xmp; /* NULL if there is none; EXIF from its TIFF header on */
    size_t icc_size, exif_size, xmp_size;
} basic_picture;

/* Decodes a file into a new picture; `options` may be NULL. Where it fails, `picture` is empty. */
BASIC_API basic_status basic_decode(const basic_model* model, const void* file, size_t size, const basic_options* options,
                                    basic_picture* picture, char* error);
BASIC_API void basic_picture_free(basic_picture* picture);

typedef struct basic_encode_options {
    int quality;         /* 1 to 100 */
    int level;           /* 0 to 7, or -1 for the highest that was packed with --encoders */
    int effort;          /* 0, the fastest, or 1, which fits a filter to the picture and takes twice as long */
    uint64_t max_pixels; /* largest picture; 0: 128,000,000 */
} basic_encode_options;

/* Encodes a picture to new memory, which basic_free frees; `options` may be NULL: quality 50, level -1, effort 1. Where it
 * fails, *file is NULL. */
BASIC_API basic_status basic_encode(const basic_model* model, const basic_picture* picture, const basic_encode_options* options,
                                    uint8_t** file, size_t* size, char* error);
BASIC_API void basic_free(void* memory);

#ifdef __cplusplus
}
#endif

#endif
