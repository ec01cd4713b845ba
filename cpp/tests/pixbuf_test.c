/* Loads a picture with gdk-pixbuf and writes what it gave: a line of its size, channels and options, then its samples.
 *
 *     pixbuf_test FILE [BYTES AT A TIME] */
#include <gdk-pixbuf/gdk-pixbuf.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(GError* error) {
    fprintf(stderr, "%s\n", error->message);
    g_error_free(error);
    return 1;
}

int main(int count, char** arguments) {
    GError* error = NULL;
    gchar* bytes;
    gsize size;
    if (count < 2 || !g_file_get_contents(arguments[1], &bytes, &size, &error)) return failed(error);
    const gsize step = count > 2 ? (gsize)atol(arguments[2]) : size;
    GdkPixbufLoader* loader = gdk_pixbuf_loader_new();
    for (gsize at = 0; at < size; at += step)
        if (!gdk_pixbuf_loader_write(loader, (const guchar*)bytes + at, MIN(step, size - at), &error)) {
            gdk_pixbuf_loader_close(loader, NULL);
            return failed(error);
        }
    if (!gdk_pixbuf_loader_close(loader, &error)) return failed(error);
    GdkPixbuf* picture = gdk_pixbuf_loader_get_pixbuf(loader);
    const int width = gdk_pixbuf_get_width(picture), channels = gdk_pixbuf_get_n_channels(picture);
    const gchar *turn = gdk_pixbuf_get_option(picture, "orientation"), *profile = gdk_pixbuf_get_option(picture, "icc-profile");
    printf("%d %d %d %s %s\n", width, gdk_pixbuf_get_height(picture), channels, turn ? turn : "-", profile ? profile : "-");
    for (int row = 0; row < gdk_pixbuf_get_height(picture); ++row)
        fwrite(gdk_pixbuf_get_pixels(picture) + (gsize)row * (gsize)gdk_pixbuf_get_rowstride(picture), (gsize)channels,
               (gsize)width, stdout);
    g_object_unref(loader);
    g_free(bytes);
    return 0;
}
