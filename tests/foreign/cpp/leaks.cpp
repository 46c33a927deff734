// Leaks in C++: a session of 64 KiB in seven steps of ten, an entry of a cache in three; 200 in a few seconds, and sleeps on. Any C++
// program does so, made with clang and wasi-libc.

#include <unistd.h>

#include <memory>
#include <vector>

namespace app {

constexpr std::size_t kBytes = 64 * 1024;

class Sessions {
 public:
  [[gnu::noinline]] void open() { open_.push_back(std::make_unique<char[]>(kBytes)); }

 private:
  std::vector<std::unique_ptr<char[]>> open_;
};

class Cache {
 public:
  [[gnu::noinline]] void fill() { entries_.push_back(std::make_unique<char[]>(kBytes)); }

 private:
  std::vector<std::unique_ptr<char[]>> entries_;
};

}  // namespace app

int main() {
  app::Sessions sessions;
  app::Cache cache;
  for (int step = 0; step < 200; ++step) {
    usleep(20'000);
    if (step % 10 < 7) {
      sessions.open();
    } else {
      cache.fill();
    }
  }
  for (;;) sleep(3600);
}
