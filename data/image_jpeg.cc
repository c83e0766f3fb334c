// JPEG through libjpeg-turbo. libjpeg reports errors by a callback that must not return: ours jumps
// back with longjmp, so the functions that call setjmp or libjpeg hold plain data only, and the C++
// objects live in DecodeJpeg, which no jump crosses.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <memory>

#include "data/image_decoders.h"
#include "runtime/error.h"

// Last, because it uses FILE and size_t without declaring them.
// clang-format off
#include <jpeglib.h>
// clang-format on

namespace graft {
namespace {

// A progressive file repeats scans over the whole picture; real ones have about ten.
constexpr int kMaxScans = 500;

enum class JpegResult { kOk, kTruncated, kError };

struct JpegState {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  std::jmp_buf on_error;
  char message[JMSG_LENGTH_MAX];
};

JpegState* StateOf(j_common_ptr info) { return static_cast<JpegState*>(info->client_data); }

void OnError(j_common_ptr info) {
  JpegState* state = StateOf(info);
  info->err->format_message(info, state->message);
  std::longjmp(state->on_error, 1);
}

// Warnings (odd markers, a damaged block) are not errors, as in PIL: many files in common data sets
// have one.
void OnMessage(j_common_ptr, int) {}
void OnOutput(j_common_ptr) {}

void OnProgress(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  JpegState* state = StateOf(info);
  std::snprintf(state->message, sizeof state->message, "more than %d scans", kMaxScans);
  std::longjmp(state->on_error, 1);
}

// The whole file is in the buffer from the start. Asking for more is "suspension" in libjpeg's
// words: the call returns, and we know that the file ends too early.
void OnSource(j_decompress_ptr) {}
boolean OnMoreInput(j_decompress_ptr) { return FALSE; }

void OnSkip(j_decompress_ptr info, long count) {
  if (count <= 0) return;
  const size_t n = std::min(static_cast<size_t>(count), info->src->bytes_in_buffer);
  info->src->next_input_byte += n;
  info->src->bytes_in_buffer -= n;
}

void Setup(JpegState* state, const std::byte* bytes, size_t size) {
  state->info.err = jpeg_std_error(&state->errors);
  state->errors.error_exit = OnError;
  state->errors.emit_message = OnMessage;
  state->errors.output_message = OnOutput;
  state->info.client_data = state;
  state->source = {};
  state->source.next_input_byte = reinterpret_cast<const JOCTET*>(bytes);
  state->source.bytes_in_buffer = size;
  state->source.init_source = OnSource;
  state->source.fill_input_buffer = OnMoreInput;
  state->source.skip_input_data = OnSkip;
  state->source.resync_to_restart = jpeg_resync_to_restart;
  state->source.term_source = OnSource;
  state->progress = {};
  state->progress.progress_monitor = OnProgress;
}

JpegResult ReadHeader(JpegState* state) {
  if (setjmp(state->on_error)) return JpegResult::kError;
  jpeg_create_decompress(&state->info);
  state->info.src = &state->source;
  state->info.progress = &state->progress;
  if (jpeg_read_header(&state->info, TRUE) == JPEG_SUSPENDED) return JpegResult::kTruncated;
  return JpegResult::kOk;
}

// Writes rows of `components` bytes per pixel to `out`.
JpegResult ReadRows(JpegState* state, J_COLOR_SPACE space, uint8_t* out, size_t row_bytes) {
  if (setjmp(state->on_error)) return JpegResult::kError;
  state->info.out_color_space = space;
  if (!jpeg_start_decompress(&state->info)) return JpegResult::kTruncated;
  while (state->info.output_scanline < state->info.output_height) {
    JSAMPROW row = out + state->info.output_scanline * row_bytes;
    if (jpeg_read_scanlines(&state->info, &row, 1) != 1) return JpegResult::kTruncated;
  }
  // All pixels are here: what is left (often a lost end marker) does not matter.
  return JpegResult::kOk;
}

void Destroy(JpegState* state) {
  if (setjmp(state->on_error)) return;
  jpeg_destroy_decompress(&state->info);
}

struct JpegDeleter {
  void operator()(JpegState* state) const {
    Destroy(state);
    delete state;
  }
};

void Expect(JpegResult result, const JpegState& state, std::string_view name) {
  if (result == JpegResult::kTruncated)
    Fail("{}: file is truncated: the JPEG data end before the image does", name);
  if (result == JpegResult::kError) Fail("{}: not a valid JPEG file: {}", name, state.message);
}

// Grey to RGB in place of a second buffer: from the back, `rgb` holds the grey values in front.
void SpreadGrey(std::vector<uint8_t>& rgb) {
  for (size_t i = rgb.size() / 3; i-- > 0;) {
    const uint8_t v = rgb[i];
    rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = v;
  }
}

// Four components are stored inverted (Adobe's convention, which PIL assumes for every such file),
// so a sample s means ink 255 - s, and white minus ink is
//   out = s_k - round(ink * s_k / 255),   the division in PIL's 8-bit form.
void CmykToRgb(const std::vector<uint8_t>& cmyk, std::vector<uint8_t>& rgb) {
  for (size_t i = 0, n = cmyk.size() / 4; i < n; ++i) {
    const int key = cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[4 * i + c]) * key + 128;
      const int ink = (product + (product >> 8)) >> 8;
      rgb[3 * i + c] = static_cast<uint8_t>(std::max(0, key - ink));
    }
  }
}

}  // namespace

Image DecodeJpeg(ImageBytes bytes, std::string_view name) {
  std::unique_ptr<JpegState, JpegDeleter> state(new JpegState{});
  Setup(state.get(), bytes.data(), bytes.size());
  Expect(ReadHeader(state.get()), *state, name);
  const jpeg_decompress_struct& info = state->info;
  const int64_t width = info.image_width, height = info.image_height;
  CheckImageSize(width, height, name);
  const int components = info.num_components;
  if (components != 1 && components != 3 && components != 4)
    Fail("{}: expected a JPEG with 1, 3 or 4 components, found {}", name, components);
  // Huffman coding spends at least one bit on each 8 x 8 block, and whatever the sampling factors,
  // 1024 pixels have at least 8 blocks.
  if (!info.arith_code) CheckImageBytes(bytes, width * height / 1024, name);

  Image image{static_cast<int>(width), static_cast<int>(height), {}};
  image.rgb.resize(static_cast<size_t>(3 * width * height));
  if (components == 4) {
    std::vector<uint8_t> cmyk(static_cast<size_t>(4 * width * height));
    Expect(ReadRows(state.get(), JCS_CMYK, cmyk.data(), static_cast<size_t>(4 * width)), *state,
           name);
    CmykToRgb(cmyk, image.rgb);
  } else {
    const J_COLOR_SPACE space = components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    const size_t row_bytes = static_cast<size_t>(width) * (components == 1 ? 1 : 3);
    Expect(ReadRows(state.get(), space, image.rgb.data(), row_bytes), *state, name);
    if (components == 1) SpreadGrey(image.rgb);
  }
  return image;
}

}  // namespace graft
