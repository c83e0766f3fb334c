// placeholder, removed when the folder has its first file
