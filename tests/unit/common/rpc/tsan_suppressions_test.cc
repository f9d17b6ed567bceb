// SPDX-License-Identifier: Apache-2.0
// NNG counts references with atomics that ThreadSanitizer does not see (the library is not built
// with it), and so takes the destruction of NNG's own mutexes for a race. Our std::mutex never calls
// pthread_mutex_destroy, so this hides nothing of ours.
#if defined(__SANITIZE_THREAD__)
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race_top:pthread_mutex_destroy"; }
#endif
