// A small task that is made here: noise with a touch of red, green or blue.
#pragma once
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

class Examples {
 public:
  // `n` square images; another n gives other noise.
  Examples(int64_t n, int64_t image_size) : sample_(3 * image_size * image_size) {
    std::mt19937 random(static_cast<unsigned>(n));
    std::normal_distribution<float> noise;
    for (int64_t i = 0; i < n; ++i) {
      labels_.push_back(static_cast<int32_t>(random() % 3));
      for (int64_t k = 0; k < sample_; ++k)
        images_.push_back(noise(random) + (k * 3 / sample_ == labels_.back() ? 0.5f : 0.0f));
    }
  }
  int64_t size() const { return static_cast<int64_t>(labels_.size()); }

  // Copies examples first, first + 1, ..., from the start again after the last, to where a model
  // reads them: image [n,3,size,size], labels [n].
  void Copy(int64_t first, int64_t n, float* image, int32_t* labels = nullptr) const {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t example = (first + i) % size();
      image = std::copy_n(&images_[example * sample_], sample_, image);
      if (labels) labels[i] = labels_[example];
    }
  }

  // The class with the largest of an example's logits; these are [n,3].
  size_t Top(const std::vector<float>& logits, int64_t example) const {
    const auto row = logits.begin() + example * 3;
    return static_cast<size_t>(std::max_element(row, row + 3) - row);
  }
  double Accuracy(const std::vector<float>& logits) const {
    double right = 0;
    for (int64_t i = 0; i < size(); ++i)
      right += static_cast<int32_t>(Top(logits, i)) == labels_[i];
    return right / static_cast<double>(size());
  }

 private:
  int64_t sample_;             // floats of one image
  std::vector<float> images_;  // [n,3,size,size], normalised
  std::vector<int32_t> labels_;
};
