"""``mm_graft start``: a folder of images in, a better encoder, pictures and numbers out."""
