// libgraft_mpi.so: messages by MPI. Errors of MPI end the process and with it the job, as MPI does
// by default.
#include <mpi.h>

#include <algorithm>

#include "runtime/process_group.h"

namespace graft {
namespace {

// MPI counts in int.
constexpr size_t kMost = size_t{1} << 30;

template <class Byte, class F>
void InPieces(std::span<Byte> bytes, const F& f) {
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kMost)))
    f(bytes.data(), static_cast<int>(std::min(bytes.size(), kMost)));
}

class MpiTransport : public Transport {
 public:
  MpiTransport() {
    // Kernels have threads; only the one that trains calls MPI.
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~MpiTransport() override { MPI_Finalize(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void Send(std::span<const std::byte> bytes, int to) override {
    InPieces(bytes, [&](const std::byte* data, int count) {
      MPI_Send(data, count, MPI_BYTE, to, 0, MPI_COMM_WORLD);
    });
  }
  void Receive(std::span<std::byte> bytes, int from) override {
    InPieces(bytes, [&](std::byte* data, int count) {
      MPI_Recv(data, count, MPI_BYTE, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    });
  }
  void Broadcast(std::span<std::byte> bytes, int from) override {
    InPieces(bytes, [&](std::byte* data, int count) {
      MPI_Bcast(data, count, MPI_BYTE, from, MPI_COMM_WORLD);
    });
  }
  int64_t Largest(int64_t value) override {
    int64_t most = 0;
    MPI_Allreduce(&value, &most, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    return most;
  }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace
}  // namespace graft

extern "C" graft::Transport* graft_open_transport(int version) {
  return version == graft::kTransportVersion ? new graft::MpiTransport : nullptr;
}
