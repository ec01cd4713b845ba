"""Rate, distortion and time of a bundle on a folder of pictures, beside the codecs that Pillow has."""
