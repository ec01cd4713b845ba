/* Decodes a .basic file and encodes its pixels again, at another quality:
 *
 *     cc there_and_back.c $(pkg-config --cflags --libs basic_codec) -o there_and_back
 *     ./there_and_back model.basicmodel photo.basic again.basic 30
 *
 * The model is one of basic-run pack --encoders. */
#include <basic_codec.h>
#include <stdio.h>
#include <stdlib.h>

static char error[BASIC_ERROR_SIZE];

static void fail(const char* name) {
    fprintf(stderr, "there_and_back: error: %s: %s\n", name, error);
    exit(1);
}

/* The bytes of a file; of one that cannot be read none, which no function takes for a file. */
static unsigned char* content_of(const char* name, size_t* size) {
    FILE* file = fopen(name, "rb");
    long length = 0;
    unsigned char* bytes = NULL;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0) length = ftell(file);
    if (length > 0 && (bytes = malloc((size_t)length)) != NULL) {
        rewind(file);
        length = (long)fread(bytes, 1, (size_t)length, file);
    }
    if (file != NULL) fclose(file);
    *size = bytes == NULL ? 0 : (size_t)length;
    return bytes;
}

int main(int count, char** arguments) {
    size_t model_size, file_size, again_size;
    unsigned char *model_bytes, *file_bytes;
    uint8_t* again;
    basic_model* model;
    basic_picture picture;
    basic_encode_options options = {50, -1, 1, 0};
    FILE* output;
    if (count != 5) {
        fputs("there_and_back MODEL FILE OUTPUT QUALITY\n", stderr);
        return 2;
    }
    options.quality = atoi(arguments[4]);
    model_bytes = content_of(arguments[1], &model_size);
    file_bytes = content_of(arguments[2], &file_size);
    if (basic_model_open(model_bytes, model_size, 0, &model, error) != BASIC_OK) fail(arguments[1]);
    if (basic_decode(model, file_bytes, file_size, NULL, &picture, error) != BASIC_OK) fail(arguments[2]);
    if (basic_encode(model, &picture, &options, &again, &again_size, error) != BASIC_OK) fail(arguments[2]);
    printf("%ux%u: %lu bytes, at quality %d %lu\n", picture.width, picture.height, (unsigned long)file_size, options.quality,
           (unsigned long)again_size);
    output = fopen(arguments[3], "wb");
    if (output == NULL || fwrite(again, 1, again_size, output) != again_size || fclose(output) != 0) {
        perror(arguments[3]);
        return 1;
    }
    basic_free(again);
    basic_picture_free(&picture);
    basic_model_free(model);
    free(file_bytes);
    free(model_bytes);
    return 0;
}
