// Processes that work on one thing together, started by mpirun or srun: data-parallel training.
//
// Every process runs the same code with the same arguments; what is expensive is divided, and the
// results are shared, in an order that no number of processes changes. What they exchange goes
// through a Transport. MPI's is a library of its own, libgraft_mpi.so, that is loaded where a
// launcher has started several processes: the program itself needs no MPI.
//
// Errors: a process that fails tells the others when they next Meet, and all of them throw the same
// Error. So each exchange comes after a Meet, and nothing between the two may throw.
#pragma once
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/threads.h"

namespace graft {

// Point to point and collective messages among `size` processes. Calls of all processes come in
// the same order, from one thread each. A message that cannot be delivered ends the process.
class Transport {
 public:
  virtual ~Transport() = default;  // after which no process may be waited for
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void Send(std::span<const std::byte> bytes, int to) = 0;
  virtual void Receive(std::span<std::byte> bytes, int from) = 0;
  virtual void Broadcast(std::span<std::byte> bytes, int from) = 0;
  virtual int64_t Largest(int64_t value) = 0;
};

class ProcessGroup {
 public:
  explicit ProcessGroup(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  bool IsFirst() const { return rank() == 0; }

  // Waits for all processes. Throws Error if one of them has failed, the same in all. Returns
  // whether any of them wants to stop.
  bool Meet(bool wants_stop = false);
  // Calls f and then Meet; what f throws is what all of them throw.
  void Together(const std::function<void()>& f);

  // Which of `items` this process, or another, has: consecutive ones, none if there are too few.
  Piece Mine(int64_t items) const { return PieceOf(items, rank()); }
  Piece PieceOf(int64_t items, int rank) const;

  // The process `from` gives its bytes to all.
  void Broadcast(std::span<std::byte> bytes, int from) { transport_->Broadcast(bytes, from); }
  // Each process has filled its piece of `values`, which are `items` rows of equal size, and
  // gets the others'.
  template <class T>
  void ShareRows(std::span<T> values, int64_t items) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t row = items > 0 ? values.size() / static_cast<size_t>(items) : 0;
    for (int r = 0; r < size(); ++r) {
      const Piece piece = PieceOf(items, r);
      Broadcast(std::as_writable_bytes(values.subspan(static_cast<size_t>(piece.begin) * row,
                                                      static_cast<size_t>(piece.size) * row)),
                r);
    }
  }
  // The texts of all processes, by rank. Meets first.
  std::vector<std::string> Gather(const std::string& text);

  // terms[i] are the addends i of a sum, all of one length, of which this process has computed
  // Mine(terms.size()). On return terms[0] is ((terms[0] + terms[1]) + terms[2]) + ... in every
  // process: the same bits as if one had computed them all. Other terms are overwritten.
  void SumInOrder(std::span<const std::span<float>> terms);

 private:
  [[noreturn]] void ThrowShared(int64_t most, const std::string& mine);
  std::string BroadcastText(std::string text, int from);
  std::unique_ptr<Transport> transport_;
  bool ended_ = false;  // all know of an error
};

// What a launcher's environment says of this process.
struct LaunchedProcess {
  int rank = 0, size = 1;
};
LaunchedProcess ReadLaunch();

// The group of the processes that were started with this one; null for one that runs alone. Throws
// Error where a launcher has started several and there is no library to reach them by: without it
// each would believe that it is alone.
std::unique_ptr<ProcessGroup> OpenProcessGroup();

// How many threads a process should use that shares its cores with others of the group on the same
// machine: all that it may use, divided among those with the same cores. At least 1.
int ThreadsInGroup(ProcessGroup& group);

// Of libgraft_mpi.so. The number changes with Transport.
inline constexpr int kTransportVersion = 1;
inline constexpr const char* kOpenTransport = "graft_open_transport";
using OpenTransportFunction = Transport*(int version);  // null for another version

}  // namespace graft
