#include "runtime/process_group.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <utility>

#include "runtime/affinity.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

namespace graft {
namespace {

constexpr const char* kLibrary = "libgraft_mpi.so";

// What a process says when it meets the others. A failed one says kStop + size - rank.
constexpr int64_t kGoOn = 0, kStop = 1;

// Large enough for the speed of a network, and so small that the next process soon has some.
constexpr size_t kChunk = size_t{1} << 18;  // floats

std::span<std::byte> Bytes(std::span<float> values) { return std::as_writable_bytes(values); }

int NumberOf(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::atoi(text) : otherwise;
}

// Places of the plug-in: beside the program, where it is built, and where it is installed.
std::vector<std::string> Places() {
  std::vector<std::string> places;
  std::error_code none;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", none);
  if (!none) {
    places.push_back(program.parent_path() / kLibrary);
    places.push_back(program.parent_path() / ".." / GRAFT_LIBDIR / "graft" / kLibrary);
  }
  places.push_back(kLibrary);  // where the system looks for libraries
  return places;
}

Transport* OpenTransport(const LaunchedProcess& launched) {
  std::string why;
  for (const std::string& place : Places()) {
    // MPI's own plug-ins look for its symbols among those of the program, hence RTLD_GLOBAL.
    void* library = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
      std::error_code none;
      if (why.empty() || std::filesystem::exists(place, none)) why = dlerror();
      continue;
    }
    auto* open = reinterpret_cast<OpenTransportFunction*>(dlsym(library, kOpenTransport));
    Transport* transport = open ? open(kTransportVersion) : nullptr;
    if (!transport) Fail("{}: of another version of graft", place);
    return transport;
  }
  Fail(
      "{} processes were started together, but this graft cannot reach the others: {} ({}); hint: "
      "install libopenmpi-dev and build graft again, or start one process",
      launched.size, kLibrary, why);
}

// Names the host and the cores that this process may use.
std::string CoresOfProcess() {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  std::string text = host;
  for (const int cpu : AllowedCpus()) text += fmt::format(" {}", cpu);
  return text;
}

}  // namespace

Piece ProcessGroup::PieceOf(int64_t items, int rank) const {
  // The first processes get one item more where the division leaves a rest, so that those without
  // any come last.
  const int64_t each = items / size(), more = items % size();
  return {rank * each + std::min<int64_t>(rank, more), each + (rank < more ? 1 : 0)};
}

bool ProcessGroup::Meet(bool wants_stop) {
  const int64_t most = transport_->Largest(wants_stop ? kStop : kGoOn);
  if (most > kStop) ThrowShared(most, "");
  return most == kStop;
}

// `mine` holds the kind and the message, in a process that has failed.
void ProcessGroup::ThrowShared(int64_t most, const std::string& mine) {
  ended_ = true;
  const int failed = static_cast<int>(kStop + size() - most);
  const std::string text = BroadcastText(mine, failed);
  const std::string who = failed > 0 ? fmt::format("process {} of {}: ", failed + 1, size()) : "";
  throw Error(who + text.substr(1), static_cast<ErrorKind>(static_cast<uint8_t>(text[0])));
}

void ProcessGroup::Together(const std::function<void()>& f) {
  const auto fail = [&](const std::string& message, ErrorKind kind) {
    // If several processes fail, all of them throw the error of the first.
    ThrowShared(transport_->Largest(kStop + size() - rank()), static_cast<char>(kind) + message);
  };
  try {
    f();
  } catch (const Error& e) {
    if (ended_) throw;
    fail(e.what(), e.kind);
  } catch (const std::bad_alloc&) {
    if (ended_) throw;
    fail("out of memory; hint: --memory-budget, or a smaller --batch-size", ErrorKind::kUser);
  } catch (const std::exception& e) {
    if (ended_) throw;
    fail(e.what(), ErrorKind::kUser);
  }
  Meet();
}

std::string ProcessGroup::BroadcastText(std::string text, int from) {
  uint64_t size = text.size();
  Broadcast(std::as_writable_bytes(std::span(&size, 1)), from);
  text.resize(size);
  Broadcast(std::as_writable_bytes(std::span(text)), from);
  return text;
}

std::vector<std::string> ProcessGroup::Gather(const std::string& text) {
  Meet();
  std::vector<std::string> texts;
  for (int r = 0; r < size(); ++r) texts.push_back(BroadcastText(r == rank() ? text : "", r));
  return texts;
}

// Each process adds its terms to the sum of those before, and hands it on, chunk by chunk, so that
// all work at once; the last one has the whole.
void ProcessGroup::SumInOrder(std::span<const std::span<float>> terms) {
  const int64_t n = std::ssize(terms);
  const Piece mine = Mine(n);
  int last = 0;
  while (last + 1 < size() && PieceOf(n, last + 1).size > 0) ++last;
  const std::span<float> sum = terms[0];
  for (size_t at = 0; at < sum.size(); at += kChunk) {
    const size_t count = std::min(kChunk, sum.size() - at);
    if (rank() > last) break;
    const std::span<float> part = sum.subspan(at, count);
    if (rank() > 0) transport_->Receive(Bytes(part), rank() - 1);
    for (int64_t i = std::max<int64_t>(mine.begin, 1); i < mine.begin + mine.size; ++i) {
      const float* term = terms[i].data() + at;
      for (size_t k = 0; k < count; ++k) part[k] += term[k];
    }
    if (rank() < last) transport_->Send(Bytes(part), rank() + 1);
  }
  Broadcast(Bytes(sum), last);
}

namespace {

// Slurm sets the number of tasks in a batch script as well, which runs only once; so the variable
// of a step counts, which srun sets.
constexpr std::pair<const char*, const char*> kLaunchVariables[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};

}  // namespace

LaunchedProcess ReadLaunch() {
  for (const auto& [rank, size] : kLaunchVariables)
    if (std::getenv(rank) && NumberOf(size, 1) > 1) return {NumberOf(rank, 0), NumberOf(size, 1)};
  return {};
}

namespace {

// The words of this process, joined by blanks as Open MPI joins those that it starts.
std::string OwnWords() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string words{std::istreambuf_iterator<char>(file), {}};
  if (!words.empty()) words.pop_back();  // the last null
  std::ranges::replace(words, '\0', ' ');
  return words;
}

std::string TextOf(const char* variable) {
  const char* text = std::getenv(variable);
  return text ? text : "";
}

}  // namespace

bool LaunchedAlike() {
  const std::string program = TextOf("OMPI_COMMAND"), words = TextOf("OMPI_ARGV");
  if (ReadLaunch().size < 2 || NumberOf("OMPI_NUM_APP_CTX", 2) != 1 || program.empty())
    return false;
  // The program may be named by another path than it was started by.
  const std::string name = std::filesystem::path(program).filename().string();
  std::string own = OwnWords();
  own.erase(0, own.rfind('/', own.find(' ')) + 1);
  return own == (words.empty() ? name : name + " " + words);
}

void ForgetLaunch() {
  for (const auto& [rank, size] : kLaunchVariables) unsetenv(rank), unsetenv(size);
}

std::unique_ptr<ProcessGroup> OpenProcessGroup() {
  const LaunchedProcess launched = ReadLaunch();
  if (launched.size < 2) return nullptr;
  std::unique_ptr<Transport> transport(OpenTransport(launched));
  if (transport->size() != launched.size)
    Fail(
        "{} processes were started together, but MPI knows of {}: the launcher is of another MPI "
        "than the library; hint: start them with Open MPI's mpirun, or by srun --mpi=pmix",
        launched.size, transport->size());
  return std::make_unique<ProcessGroup>(std::move(transport));
}

int ThreadsInGroup(ProcessGroup& group) {
  const std::string mine = CoresOfProcess();
  const std::vector<std::string> all = group.Gather(mine);
  const auto sharing = static_cast<int>(std::ranges::count(all, mine));
  return std::max(1, DefaultThreads() / sharing);
}

}  // namespace graft
