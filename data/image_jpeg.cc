// Reads JPEG through libjpeg-turbo. libjpeg reports errors by a callback that must not return: ours
// jumps back with longjmp, so the functions that call setjmp or libjpeg hold plain data only, and
// the C++ objects live in DecodeJpeg, which no jump crosses.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <memory>

#include "data/image_decoders.h"
#include "runtime/error.h"

// It comes last, because it uses FILE and size_t without declaring them. clang-format off
#include <jpeglib.h>
// clang-format on

namespace graft {
namespace {

// A progressive file repeats scans over the whole picture, each of which may cost a second and take
// a few hundred bytes; real ones have about ten.
constexpr int kMaxScans = 100;

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
// words: the call returns, which shows that the file ends too early.
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

// The bytes of a file in several scans, which libjpeg holds whole as coefficients of two bytes.
int64_t CoefficientBytes(JpegState* state) {
  if (!jpeg_has_multiple_scans(&state->info)) return 0;
  int64_t blocks = 0;
  for (int i = 0; i < state->info.num_components; ++i) {
    const jpeg_component_info& c = state->info.comp_info[i];
    blocks += int64_t{c.width_in_blocks + static_cast<JDIMENSION>(c.h_samp_factor)} *
              (c.height_in_blocks + static_cast<JDIMENSION>(c.v_samp_factor));
  }
  return blocks * DCTSIZE2 * static_cast<int64_t>(sizeof(JCOEF));
}

JpegResult Start(JpegState* state, J_COLOR_SPACE space) {
  if (setjmp(state->on_error)) return JpegResult::kError;
  state->info.out_color_space = space;
  return jpeg_start_decompress(&state->info) ? JpegResult::kOk : JpegResult::kTruncated;
}

// Reads the next row. Once the last one has been read, what is left of the file (often a lost end
// marker) does not matter.
JpegResult ReadRow(JpegState* state, uint8_t* out) {
  if (setjmp(state->on_error)) return JpegResult::kError;
  JSAMPROW row = out;
  return jpeg_read_scanlines(&state->info, &row, 1) == 1 ? JpegResult::kOk : JpegResult::kTruncated;
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

// Spreads grey to RGB in place: `rgb` begins with the grey values, so it is filled from the back.
void SpreadGrey(std::vector<uint8_t>& rgb) {
  for (size_t i = rgb.size() / 3; i-- > 0;) {
    const uint8_t v = rgb[i];
    rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = v;
  }
}

// Four components are stored inverted (Adobe's convention, which PIL assumes for every such file),
// so a sample s means ink 255 - s, and white minus ink is
//   out = s_k - round(ink * s_k / 255),   the division in PIL's 8-bit form.
void CmykToRgb(const std::vector<uint8_t>& cmyk, uint8_t* rgb) {
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

Image DecodeJpeg(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
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

  constexpr int64_t kRows = 64;  // of samples that libjpeg holds, with its tables
  Image image = Begin(bytes, width, height,
                      CoefficientBytes(state.get()) + kRows * components * (width + 64), check);
  image.rgb.resize(3 * width * height);
  Expect(Start(state.get(), components == 1   ? JCS_GRAYSCALE
                            : components == 4 ? JCS_CMYK
                                              : JCS_RGB),
         *state, name);
  std::vector<uint8_t> cmyk(components == 4 ? 4 * width : 0);
  for (int64_t y = 0; y < height; ++y) {
    uint8_t* row = image.rgb.data() + width * y * (components == 1 ? 1 : 3);
    Expect(ReadRow(state.get(), components == 4 ? cmyk.data() : row), *state, name);
    if (components == 4) CmykToRgb(cmyk, row);
  }
  if (components == 1) SpreadGrey(image.rgb);
  return image;
}

}  // namespace graft
