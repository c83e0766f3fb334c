#include "data/generate.h"

#include <cmath>
#include <filesystem>
#include <numeric>

#include "data/draw.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/fresh_directory.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr double kNoise = 0.06;

uint64_t HashText(std::string_view text) {
  uint64_t hash = text.size();
  for (char c : text) hash = HashBits(hash ^ static_cast<unsigned char>(c));
  return hash;
}

// The streams for the pixels of an image and for the order of the labels are independent.
uint64_t Key(std::string_view task, std::string_view purpose, uint64_t seed, uint64_t index) {
  return HashBits(HashBits(HashText(task) ^ HashBits(seed)) ^ HashText(purpose)) ^ HashBits(~index);
}

// Backgrounds are dark and figures bright, in any hue, so that a figure can be found without
// knowing its colour.
Color BackgroundColor(HashStream& s) {
  return FromHsv(s.Uniform(), s.Between(0.2, 0.9), s.Between(0.05, 0.35));
}
Color FigureColor(HashStream& s) {
  return FromHsv(s.Uniform(), s.Between(0.1, 0.8), s.Between(0.7, 1.0));
}
double Tilt(HashStream& s) { return s.Between(-0.14, 0.14); }  // about -16 to 16 degrees
ShapeKind AnyShape(HashStream& s) { return static_cast<ShapeKind>(s.Below(kShapeKinds)); }

void DrawBackground(Canvas& canvas, HashStream& s) {
  const Color top = BackgroundColor(s), bottom = BackgroundColor(s);
  canvas.FillGradient(top, bottom);
}

void DrawShapes(Canvas& canvas, HashStream& s, int label) {
  const double radius = s.Between(0.27, 0.4);
  const double x = s.Between(0.42, 0.58), y = s.Between(0.42, 0.58), tilt = Tilt(s);
  DrawShape(canvas, {static_cast<ShapeKind>(label), x, y, radius, tilt}, FigureColor(s));
}

void DrawCount(Canvas& canvas, HashStream& s, int label) {
  struct Blob {
    double x, y, radius;
  };
  std::vector<Blob> blobs;
  double largest = 0.13;
  while (blobs.size() < static_cast<size_t>(label) + 1) {
    const double radius = s.Between(0.08, largest);
    const Blob blob{s.Between(radius, 1 - radius), s.Between(radius, 1 - radius), radius};
    bool is_free = true;
    for (const Blob& other : blobs) {
      const double dx = blob.x - other.x, dy = blob.y - other.y;
      const double distance = blob.radius + other.radius + 0.03;
      if (dx * dx + dy * dy < distance * distance) is_free = false;
    }
    // If a place is hard to find, the blob gets smaller and smaller, so that the search ends.
    if (!is_free) largest = 0.08 + (largest - 0.08) * 0.97;
    if (is_free) blobs.push_back(blob);
  }
  for (const Blob& blob : blobs)
    DrawShape(canvas, {ShapeKind::kDisk, blob.x, blob.y, blob.radius / 0.9, 0}, FigureColor(s));
}

void DrawPosition(Canvas& canvas, HashStream& s, int label) {
  const double radius = s.Between(0.1, 0.16);
  const double x = (label % 3 + s.Between(0.4, 0.6)) / 3, y = (label / 3 + s.Between(0.4, 0.6)) / 3;
  const ShapeKind kind = AnyShape(s);
  const double tilt = Tilt(s);
  DrawShape(canvas, {kind, x, y, radius, tilt}, FigureColor(s));
}

void DrawColor(Canvas& canvas, HashStream& s, int label) {
  const double radius = s.Between(0.2, 0.38);
  const double x = s.Between(0.35, 0.65), y = s.Between(0.35, 0.65), tilt = Tilt(s);
  const ShapeKind kind = AnyShape(s);
  const double hue = (label + s.Between(-0.2, 0.2)) / 8;
  const double saturation = s.Between(0.55, 0.95), value = s.Between(0.75, 1.0);
  DrawShape(canvas, {kind, x, y, radius, tilt}, FromHsv(hue, saturation, value));
}

double Fraction(double x) { return x - static_cast<double>(static_cast<int64_t>(x)); }

// Draws periodic patterns over the whole image; coordinates are made positive before Fraction.
void DrawTexture(Canvas& canvas, HashStream& s, int label) {
  const double repeats = s.Between(3.0, 5.5), phase = s.Uniform() + 8, shift = s.Uniform() + 8;
  const Color color = FigureColor(s);
  canvas.Fill({0, 0, 1, 1}, color, [&](double x, double y) {
    const double u = x * repeats, v = y * repeats;
    const bool even_u = Fraction(u + phase) < 0.5, even_v = Fraction(v + shift) < 0.5;
    const double du = Fraction(u + phase) - 0.5, dv = Fraction(v + shift) - 0.5;
    switch (label) {
      case 0:
        return even_v;  // horizontal
      case 1:
        return even_u;  // vertical
      case 2:
        return Fraction((u + v) * 0.7071067811865476 + phase) < 0.5;  // rising
      case 3:
        return Fraction((u - v) * 0.7071067811865476 + phase) < 0.5;  // falling
      case 4:
        return even_u != even_v;  // checks
      case 5:
        return du * du + dv * dv < 0.1;  // dots
      case 6:
        return std::abs(du) > 0.35 || std::abs(dv) > 0.35;  // grid
      default:
        return false;  // plain
    }
  });
}

struct Painter {
  GeneratedTask task;
  void (*draw)(Canvas&, HashStream&, int label);
};

const std::vector<Painter>& Painters() {
  static const std::vector<Painter> painters = {
      {{"shapes",
        "which of eight figures is in the middle",
        {"disk", "square", "triangle", "plus", "ring", "star", "bar", "crescent"}},
       DrawShapes},
      {{"count",
        "how many disks there are, one to six",
        {"one", "two", "three", "four", "five", "six"}},
       DrawCount},
      {{"position",
        "in which cell of a 3 x 3 grid a figure is",
        {"top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom",
         "bottom right"}},
       DrawPosition},
      {{"color",
        "which of eight hues a figure has",
        {"red", "orange", "green", "spring green", "cyan", "azure", "violet", "magenta"}},
       DrawColor},
      {{"texture",
        "which of eight patterns fills the image",
        {"horizontal", "vertical", "rising", "falling", "checks", "dots", "grid", "plain"}},
       DrawTexture},
  };
  return painters;
}

// Writes the images of one split and returns the lines of its list.
std::string WriteSplit(const fs::path& root, const std::string& name, const GeneratedTask& task,
                       int size, size_t count, uint64_t seed, uint64_t first) {
  fs::create_directories(root / "images" / name);
  std::string lines;
  for (size_t i = 0; i < count; ++i) {
    const std::string path = fmt::format("images/{}/{:06}.png", name, i);
    WritePng((root / path).string(), GenerateImage(task, size, seed, first + i));
    lines += fmt::format("{} {}\n", path, GenerateLabel(task, seed, first + i));
  }
  return lines;
}

}  // namespace

const std::vector<GeneratedTask>& GeneratedTasks() {
  static const std::vector<GeneratedTask> tasks = [] {
    std::vector<GeneratedTask> list;
    for (const Painter& painter : Painters()) list.push_back(painter.task);
    return list;
  }();
  return tasks;
}

const GeneratedTask& FindGeneratedTask(std::string_view name) {
  std::vector<std::string> names;
  for (const GeneratedTask& task : GeneratedTasks()) {
    if (task.name == name) return task;
    names.push_back(task.name);
  }
  const std::string near = Nearest(name, names);
  Fail("there is no task '{}'{}; known: {}", name,
       near.empty() ? "" : fmt::format("; did you mean '{}'?", near), fmt::join(names, ", "));
}

int GenerateLabel(const GeneratedTask& task, uint64_t seed, uint64_t index) {
  const auto classes = static_cast<uint64_t>(task.classes.size());
  HashStream stream(Key(task.name, "labels", seed, index / classes));
  std::vector<int> order(task.classes.size());
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size() - 1; i > 0; --i)
    std::swap(order[i], order[stream.Below(static_cast<int>(i) + 1)]);
  return order[index % classes];
}

Image GenerateImage(const GeneratedTask& task, int size, uint64_t seed, uint64_t index) {
  if (size < kMinGeneratedSize || size > kMaxGeneratedSize)
    Fail("expected an image size from {} to {}, found {}", kMinGeneratedSize, kMaxGeneratedSize,
         size);
  for (const Painter& painter : Painters()) {
    if (painter.task.name != task.name) continue;
    HashStream stream(Key(task.name, "pixels", seed, index));
    Canvas canvas(size);
    DrawBackground(canvas, stream);
    painter.draw(canvas, stream, GenerateLabel(task, seed, index));
    return canvas.ToImage(stream, kNoise);
  }
  Fail("there is no task '{}'", task.name);
}

void WriteTask(const std::string& directory, std::string_view name, int size,
               const TaskCounts& counts, uint64_t seed) {
  const GeneratedTask& task = FindGeneratedTask(name);
  if (counts.train == 0 || counts.val == 0 || counts.test == 0)
    Fail("expected at least one image per split, found {} train, {} val, {} test", counts.train,
         counts.val, counts.test);
  try {
    FreshDirectory fresh(directory);
    const fs::path root(fresh.path());
    const std::string train = WriteSplit(root, "train800", task, size, counts.train, seed, 0);
    const std::string val = WriteSplit(root, "val200", task, size, counts.val, seed, counts.train);
    const std::string test =
        WriteSplit(root, "test", task, size, counts.test, seed, kFirstTestIndex);
    std::string classes;
    for (const std::string& c : task.classes) classes += c + "\n";
    WriteFileAtomically((root / "classes.txt").string(), classes);
    WriteFileAtomically((root / "train800.txt").string(), train);
    WriteFileAtomically((root / "val200.txt").string(), val);
    WriteFileAtomically((root / "train800val200.txt").string(), train + val);
    WriteFileAtomically((root / "test.txt").string(), test);
    fresh.Keep();
  } catch (const fs::filesystem_error& error) {
    Fail("{}: cannot write the data set: {}: {}", directory, error.path1().string(),
         error.code().message());
  }
}

}  // namespace graft
