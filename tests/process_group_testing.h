// A group of threads in the place of processes.
#pragma once
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/process_group.h"

namespace graft {

// Messages that were sent and not received yet, by sender and receiver.
class Mail {
 public:
  void Send(int from, int to, std::span<const std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    boxes_[{from, to}].emplace_back(bytes.begin(), bytes.end());
    changed_.notify_all();
  }
  void Receive(int from, int to, std::span<std::byte> bytes) {
    std::unique_lock lock(mutex_);
    auto& box = boxes_[{from, to}];
    changed_.wait(lock, [&] { return !box.empty(); });
    if (box.front().size() != bytes.size()) std::abort();  // another call than the sender's
    std::ranges::copy(box.front(), bytes.begin());         // which may be empty
    box.pop_front();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> boxes_;
};

class MailTransport : public Transport {
 public:
  MailTransport(Mail& mail, int rank, int size) : mail_(mail), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void Send(std::span<const std::byte> bytes, int to) override { mail_.Send(rank_, to, bytes); }
  void Receive(std::span<std::byte> bytes, int from) override { mail_.Receive(from, rank_, bytes); }
  void Broadcast(std::span<std::byte> bytes, int from) override {
    if (rank_ != from) return Receive(bytes, from);
    for (int to = 0; to < size_; ++to)
      if (to != rank_) Send(bytes, to);
  }
  int64_t Largest(int64_t value) override {
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&value, 1));
    if (rank_ > 0) {
      Send(bytes, 0);
    } else {
      for (int from = 1; from < size_; ++from) {
        int64_t other = 0;
        Receive(std::as_writable_bytes(std::span(&other, 1)), from);
        value = std::max(value, other);
      }
    }
    Broadcast(bytes, 0);
    return value;
  }

 private:
  Mail& mail_;
  int rank_, size_;
};

// Calls f(group) on `size` threads, each with its group.
inline void InGroup(int size, const std::function<void(ProcessGroup&)>& f) {
  Mail mail;
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      ProcessGroup group(std::make_unique<MailTransport>(mail, rank, size));
      f(group);
    });
}

}  // namespace graft
