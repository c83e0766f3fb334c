// Reads WebP through libwebp: the first frame on its canvas, as PIL takes it, without alpha.
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "data/image_decoders.h"
#include "runtime/error.h"

namespace graft {
namespace {

const char* Reason(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return "not enough memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "a feature that libwebp does not support";
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return "file is truncated";
    default:
      return "its header is damaged";
  }
}

}  // namespace

Image DecodeWebp(ImageBytes bytes, std::string_view name, const DecodeCheck& check) {
  const WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(data.bytes, data.size, &features);
  if (status != VP8_STATUS_OK) Fail("{}: not a valid WebP image: {}", name, Reason(status));
  CheckImageSize(features.width, features.height, name);
  const int64_t pixels = int64_t{features.width} * features.height;
  // There is room for two canvases and the decoder's picture, of four bytes a pixel each.
  Image image = Begin(bytes, features.width, features.height, 12 * pixels, check);
  WebPAnimDecoderOptions options;
  if (!WebPAnimDecoderOptionsInit(&options)) Fail("{}: libwebp is of another version", name);
  options.color_mode = MODE_RGBA;
  const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  if (!decoder) Fail("{}: not a valid WebP image, or it is truncated", name);
  WebPAnimInfo info;
  if (!WebPAnimDecoderGetInfo(decoder.get(), &info) ||
      info.canvas_width != static_cast<uint32_t>(image.width) ||
      info.canvas_height != static_cast<uint32_t>(image.height))
    Fail("{}: not a valid WebP image: its headers contradict each other", name);
  uint8_t* rgba = nullptr;
  int timestamp = 0;
  if (!WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp))
    Fail("{}: not a valid WebP image: its pixels cannot be decoded", name);
  image.rgb.resize(3 * pixels);
  for (size_t i = 0; i < static_cast<size_t>(pixels); ++i)
    for (size_t c = 0; c < 3; ++c) image.rgb[3 * i + c] = rgba[4 * i + c];
  return image;
}

}  // namespace graft
