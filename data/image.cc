#include "data/image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

bool StartsWith(ImageBytes bytes, std::string_view magic, size_t at = 0) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

// Names a format that people have on disk but that we do not read, or "".
std::string_view ForeignFormat(ImageBytes bytes) {
  using namespace std::string_view_literals;
  if (StartsWith(bytes, "RIFF") && StartsWith(bytes, "WEBP", 8)) return "a WebP image";
  if (StartsWith(bytes, "GIF8")) return "a GIF image";
  if (StartsWith(bytes, "BM")) return "a BMP image";
  if (StartsWith(bytes, "II*\0"sv) || StartsWith(bytes, "MM\0*"sv)) return "a TIFF image";
  if (StartsWith(bytes, "P7")) return "a PAM image";
  if (StartsWith(bytes, "ftyp", 4)) return "a HEIF, AVIF or video file";
  if (StartsWith(bytes, "%PDF")) return "a PDF document";
  if (StartsWith(bytes, "\x93NUMPY")) return "a NumPy array";
  if (StartsWith(bytes, "PK\x03\x04")) return "a zip archive";
  if (StartsWith(bytes, "version https://git-lfs"))
    return "a Git LFS pointer, not the image itself";
  return "";
}

// The first bytes as text if they are text, else in hexadecimal.
std::string DescribeBytes(ImageBytes bytes) {
  if (const std::string_view foreign = ForeignFormat(bytes); !foreign.empty())
    return std::string(foreign);
  const ImageBytes head = bytes.first(std::min<size_t>(bytes.size(), 16));
  const bool is_text = std::all_of(head.begin(), head.end(), [](std::byte b) {
    const int c = std::to_integer<int>(b);
    return (c >= 32 && c < 127) || c == '\n' || c == '\r' || c == '\t';
  });
  std::string shown;
  for (std::byte b : head) {
    const int c = std::to_integer<int>(b);
    if (is_text)
      shown += c < 32 ? ' ' : static_cast<char>(c);
    else
      shown += fmt::format("{}{:02x}", shown.empty() ? "" : " ", c);
  }
  return is_text ? fmt::format("text that begins with '{}'", shown)
                 : fmt::format("bytes {}", shown);
}

// Closes the descriptor on every way out.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

void CheckImageSize(int64_t width, int64_t height, std::string_view name) {
  if (width <= 0 || height <= 0)
    Fail("{}: expected an image of at least 1 x 1 pixels, found {} x {}", name, width, height);
  if (height > kMaxImagePixels / width)
    Fail("{}: the image has {} x {} pixels, more than the limit of {} in all; scale it down first",
         name, width, height, kMaxImagePixels);
}

void CheckImageBytes(ImageBytes bytes, int64_t least, std::string_view name) {
  if (static_cast<int64_t>(bytes.size()) < least)
    Fail("{}: file is truncated: its header asks for at least {} bytes, found {}", name, least,
         bytes.size());
}

Image DecodeImage(std::span<const std::byte> bytes, std::string_view name) {
  if (bytes.empty()) Fail("{}: expected an image, found an empty file", name);
  if (StartsWith(bytes, "\xff\xd8\xff")) return DecodeJpeg(bytes, name);
  if (StartsWith(bytes, "\x89PNG\r\n\x1a\n")) return DecodePng(bytes, name);
  if (bytes.size() >= 2 && bytes[0] == std::byte{'P'} && bytes[1] >= std::byte{'1'} &&
      bytes[1] <= std::byte{'6'})
    return DecodePnm(bytes, name);
  Fail("{}: expected an image (JPEG, PNG, PBM, PGM or PPM), found {}", name, DescribeBytes(bytes));
}

std::vector<std::byte> ReadWholeFile(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) Fail("{}: cannot open the file: {}", path, std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) Fail("{}: cannot read: {}", path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) Fail("{}: expected a file, found a directory", path);
  if (!S_ISREG(info.st_mode)) Fail("{}: expected a regular file, found a device or pipe", path);
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t n = ::read(file.fd, bytes.data() + filled, bytes.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) Fail("{}: cannot read: {}", path, std::strerror(errno));
    if (n == 0) break;  // the file shrank meanwhile; the decoder will call it truncated
    filled += static_cast<size_t>(n);
  }
  bytes.resize(filled);
  return bytes;
}

Image ReadImage(const std::string& path) { return DecodeImage(ReadWholeFile(path), path); }

}  // namespace graft
