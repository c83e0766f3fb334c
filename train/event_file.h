// The events file of a run: what metrics.jsonl says, for TensorBoard (docs/file_formats.md has the
// layout). Protocol buffers and TFRecord are written by hand: three small messages and a checksum,
// where libprotobuf would need a compiler at build time and a library at run time.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace graft {

// TensorBoard reads only files that have "tfevents" in their names.
inline constexpr const char* kEventFile = "events.out.tfevents.graft";

// The record that an events file begins with.
std::string EventFileStart(double wall_time);
// A record of one line of metrics.jsonl: its numbers as scalars at its "step", named as
// TensorBoard groups them: train_loss is train/loss, val_accuracy val/accuracy, lr stays lr.
// `wall_time`: seconds since 1970. "" for a line without a step.
std::string EventRecord(const nlohmann::json& line, double wall_time);

// The wall times of the records of an events file, by step. A torn or foreign file gives those of
// the records before the damage.
std::map<int64_t, double> EventTimes(std::string_view file);
// The whole events file for the lines of a metrics.jsonl. The wall time of a step is that in
// `times`, or `now` where it has none.
std::string EventFile(std::string_view metrics, const std::map<int64_t, double>& times, double now);

// TFRecord's checksum of `bytes`: CRC-32C, rotated right by 15 bits, plus 0xa282ead8.
uint32_t MaskedCrc32c(std::string_view bytes);

}  // namespace graft
