#include "runtime/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/io/near_path.h"

namespace graft {
namespace {

// Ranges that are mapped, for the signal handler: it may run at any time, and must not allocate or
// lock.
struct MappedRange {
  std::atomic<bool> taken = false;
  std::atomic<const std::byte*> begin = nullptr;  // null: not complete
  std::atomic<size_t> size = 0;
  std::atomic<const char*> path = nullptr;
};
constexpr size_t kMostRanges = 4096;  // of more files than that the message names none
MappedRange g_ranges[kMostRanges];

void Register(std::span<const std::byte> bytes, const char* path) {
  for (MappedRange& range : g_ranges) {
    if (range.taken.exchange(true)) continue;
    range.size = bytes.size(), range.path = path, range.begin = bytes.data();
    return;
  }
}

void Unregister(std::span<const std::byte> bytes) {
  for (MappedRange& range : g_ranges)
    if (range.begin == bytes.data()) {
      range.begin = nullptr;
      range.taken = false;
      return;
    }
}

bool g_as_json = false;

void Say(std::string_view text, int fd = STDERR_FILENO) {
  while (!text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(n);
  }
}

// Writes the name, with '?' for characters that a terminal would obey.
void SayName(const char* name) {
  for (; *name; ++name) {
    const bool control = static_cast<unsigned char>(*name) < 32 || *name == 127;
    Say(control ? std::string_view("?") : std::string_view(name, 1));
  }
}

void OnBusError(int signal, siginfo_t* info, void*) {
  const auto* address = static_cast<const std::byte*>(info->si_addr);
  for (const MappedRange& range : g_ranges) {
    const std::byte* begin = range.begin;
    if (!begin || address < begin || address >= begin + range.size) continue;
    // Threads that read the same file come here together; only the first one speaks.
    static std::atomic_flag speaking = ATOMIC_FLAG_INIT;
    while (speaking.test_and_set()) pause();
    Say("graft: ");
    SayName(range.path);
    Say(": the file was cut short while it was in use; what was saved before is kept; hint: put "
        "the original file back and start again\n");
    if (g_as_json)
      Say("{\"error\":\"a file was cut short while it was in use; standard error names it\","
          "\"exit_code\":1,\"kind\":\"user\"}\n",
          STDOUT_FILENO);
    _exit(1);
  }
  std::signal(signal, SIG_DFL);  // not ours: it comes again
}

}  // namespace

void GiveBackPages(const void* data, size_t bytes) noexcept {
  const auto* first = static_cast<const std::byte*>(data);
  for (const MappedRange& range : g_ranges) {
    const std::byte* begin = range.begin;
    if (!begin || first < begin || first + bytes > begin + range.size) continue;
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t from = (static_cast<size_t>(first - begin) + page - 1) / page * page;
    const size_t to = (static_cast<size_t>(first - begin) + bytes) / page * page;
    if (from < to) madvise(const_cast<std::byte*>(begin) + from, to - from, MADV_DONTNEED);
    return;
  }
}

void ExplainFilesCutShort(bool as_json) {
  g_as_json = as_json;
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

std::shared_ptr<const MappedFile> MappedFile::Open(const std::string& path) {
  // Opening must not block: a named pipe is refused below, and not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) FailToOpen(path, errno);
  struct Closer {
    int fd;
    ~Closer() { close(fd); }
  } closer{fd};
  struct stat status {};
  if (fstat(fd, &status) != 0) Fail("{}: cannot stat: {}", path, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) Fail("{}: expected a regular file", path);
  const auto size = static_cast<size_t>(status.st_size);
  std::span<const std::byte> bytes;
  if (size > 0) {
    void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) Fail("{}: cannot map {} bytes: {}", path, size, std::strerror(errno));
    bytes = {static_cast<const std::byte*>(data), size};
  }
  RecordRead(fd);
  std::shared_ptr<const MappedFile> file(new MappedFile(path, bytes));
  if (size > 0) Register(bytes, file->path_.c_str());
  return file;
}

MappedFile::~MappedFile() {
  if (bytes_.empty()) return;
  Unregister(bytes_);
  munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace graft
