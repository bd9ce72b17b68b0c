// Asio asks for a timerfd and, where there is none, waits with the time-out of epoll_wait. Under
// simulated time the descriptor would be set anew with every poll, and the kernel's timers would be
// three quarters of a run: so a simulation has none.

#include <cerrno>

extern "C" int timerfd_create(int, int) {
  errno = ENOSYS;
  return -1;
}
