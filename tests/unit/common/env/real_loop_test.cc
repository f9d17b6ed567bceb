// SPDX-License-Identifier: Apache-2.0
#include "common/env/real_loop.h"

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <future>
#include <memory>
#include <string>
#include <thread>

using namespace lumeofs;

namespace {

// Runs everything that was posted so far, and what that posts.
void settle(RealLoop& loop) { CHECK(loop.run_and_wait([] {})); }

}  // namespace

TEST_CASE("the thread that posts to a free loop runs the task itself") {
    RealLoop loop;
    std::thread::id runner;
    bool inside = false;
    loop.post([&] {
        runner = std::this_thread::get_id();
        inside = loop.in_loop();
    });
    CHECK(runner == std::this_thread::get_id());
    CHECK(inside);
    CHECK_FALSE(loop.in_loop());
}

TEST_CASE("a post from inside a task only queues") {
    RealLoop loop;
    std::string order;
    loop.post([&] {
        loop.post([&] { order += 'b'; });
        order += 'a';
    });
    CHECK(order == "ab");
}

TEST_CASE("tasks run in the order of posting") {
    RealLoop loop;
    std::string order;
    loop.post([&] {
        for (char c = 'a'; c <= 'z'; ++c) loop.post([&order, c] { order += c; });
    });
    CHECK(order == "abcdefghijklmnopqrstuvwxyz");
}

TEST_CASE("an idle task closes the batch that was waiting when it was asked for") {
    RealLoop loop;
    std::string order;
    loop.post([&] {
        loop.post([&] { order += 'a'; });
        loop.post([&] {
            order += 'b';
            loop.post([&] { order += 'd'; });  // not waiting yet when the idle task was asked for
        });
        loop.at_end_of_batch([&] { order += 'c'; });
    });
    CHECK(order == "abcd");
}

TEST_CASE("idle tasks come even if the queue never gets empty") {
    RealLoop loop;
    int left = 1000;
    int left_at_idle = -1;
    std::promise<void> done;
    std::function<void()> again = [&] {
        if (--left > 0) {
            loop.post(again);
        } else {
            done.set_value();
        }
    };
    loop.post([&] {
        loop.post(again);
        loop.at_end_of_batch([&] { left_at_idle = left; });
    });
    done.get_future().wait();
    settle(loop);
    CHECK(left_at_idle == 999);
}

TEST_CASE("an idle task may ask for another one") {
    RealLoop loop;
    int count = 0;
    loop.post([&] {
        loop.at_end_of_batch([&] {
            ++count;
            loop.at_end_of_batch([&] { ++count; });
        });
    });
    CHECK(count == 2);
}

TEST_CASE("a visitor is let go and the loop's own thread takes the rest") {
    RealLoop loop({.tasks_per_visit = 10, .visit_limit = kSecond});
    const auto visitor = std::this_thread::get_id();
    int by_visitor = 0;
    int by_other = 0;
    std::promise<void> done;
    loop.post([&] {
        for (int i = 0; i < 100; ++i) {
            loop.post([&] { ++(std::this_thread::get_id() == visitor ? by_visitor : by_other); });
        }
        loop.post([&] { done.set_value(); });
    });
    done.get_future().wait();
    CHECK(by_visitor == 9);  // the tenth task is the one that posted them
    CHECK(by_other == 91);
}

TEST_CASE("a visitor is let go after its time") {
    RealLoop loop({.tasks_per_visit = 1'000'000, .visit_limit = 1});
    std::promise<std::thread::id> second;
    loop.post([&] { loop.post([&] { second.set_value(std::this_thread::get_id()); }); });
    CHECK(second.get_future().get() != std::this_thread::get_id());
}

TEST_CASE("timers run in the order of their times, and not before") {
    RealLoop loop;
    std::string order;
    std::promise<void> done;
    Nanos started = 0;
    Nanos ended = 0;
    loop.post([&] {
        started = loop.now();
        loop.after(30 * kMillisecond, [&] {
            order += 'c';
            ended = loop.now();
            done.set_value();
        });
        loop.after(20 * kMillisecond, [&] { order += 'b'; });
        loop.after(10 * kMillisecond, [&] { order += 'a'; });
    });
    done.get_future().wait();
    CHECK(order == "abc");
    CHECK(ended - started >= 30 * kMillisecond);
}

TEST_CASE("an earlier task cancels a timer that is due already") {
    RealLoop loop;
    bool ran = false;
    std::promise<void> done;
    loop.post([&] {
        TimerId second = 0;
        auto id = std::make_shared<TimerId>();
        loop.after(kMillisecond, [&loop, id] { loop.cancel(*id); });
        second = loop.after(kMillisecond + 1, [&ran] { ran = true; });
        *id = second;
        loop.after(5 * kMillisecond, [&done] { done.set_value(); });
        const Nanos until = loop.now() + 3 * kMillisecond;
        while (loop.now() < until) {
        }
    });
    done.get_future().wait();
    settle(loop);
    CHECK_FALSE(ran);
}

TEST_CASE("a cancelled timer does not run, and cancelling twice is harmless") {
    RealLoop loop;
    int count = 0;
    std::promise<void> done;
    loop.post([&] {
        TimerId id = loop.after(kMillisecond, [&] { ++count; });
        CHECK(id != 0);
        loop.cancel(id);
        loop.cancel(id);
        loop.cancel(0);
        loop.after(3 * kMillisecond, [&] { done.set_value(); });
    });
    done.get_future().wait();
    CHECK(count == 0);
}

TEST_CASE("Timer repeats until it is stopped") {
    RealLoop loop;
    std::promise<void> done;
    int count = 0;
    auto timer = std::make_unique<Timer>(loop);
    loop.run_and_wait([&] {
        timer->repeat(kMillisecond, [&] {
            if (++count == 5) {
                timer->stop();
                done.set_value();
            }
        });
    });
    done.get_future().wait();
    loop.run_and_wait([&] { timer.reset(); });
    CHECK(count == 5);
}

TEST_CASE("timers come while the loop's own thread is busy") {
    RealLoop loop({.tasks_per_visit = 1, .visit_limit = kSecond});
    bool rang = false;
    std::promise<void> done;
    std::function<void()> spin = [&] {
        if (rang) {
            done.set_value();
        } else {
            loop.post(spin);
        }
    };
    loop.post([&] {
        loop.after(2 * kMillisecond, [&] { rang = true; });
        loop.post(spin);
    });
    CHECK(done.get_future().wait_for(std::chrono::seconds(20)) == std::future_status::ready);
    settle(loop);
}

TEST_CASE("many threads post: nothing is lost, nothing overlaps") {
    RealLoop loop({.tasks_per_visit = 16, .visit_limit = kMillisecond});
    constexpr int kThreads = 4;
    constexpr int kEach = 5'000;
    int counter = 0;        // not atomic on purpose: TSan and the sum would show an overlap
    int last[kThreads] = {};
    bool in_order = true;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 1; i <= kEach; ++i) {
                loop.post([&, t, i] {
                    ++counter;
                    if (last[t] != i - 1) in_order = false;
                    last[t] = i;
                });
            }
        });
    }
    for (auto& thread : threads) thread.join();
    settle(loop);
    CHECK(counter == kThreads * kEach);
    CHECK(in_order);
}

TEST_CASE("run_and_wait from many threads while the loop is busy") {
    RealLoop loop({.tasks_per_visit = 2, .visit_limit = kMillisecond});
    int counter = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 500; ++i) {
                int seen = 0;
                CHECK(loop.run_and_wait([&] { seen = ++counter; }));
                CHECK(seen > 0);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(counter == 2000);
}

TEST_CASE("run_and_wait runs inline from inside a task") {
    RealLoop loop;
    int count = 0;
    loop.post([&] { CHECK(loop.run_and_wait([&] { ++count; })); });
    CHECK(count == 1);
}

TEST_CASE("stop ends run_until_stopped, nothing runs after it") {
    RealLoop loop;
    bool late = false;
    std::thread stopper([&] {
        loop.post([&] {
            loop.stop();
            loop.post([&] { late = true; });
        });
    });
    loop.run_until_stopped();
    stopper.join();
    loop.post([&] { late = true; });
    CHECK_FALSE(loop.run_and_wait([] {}));
    CHECK_FALSE(late);
}

TEST_CASE("tasks and timers that never ran are destroyed with the loop") {
    auto held = std::make_shared<int>(1);
    {
        RealLoop loop;
        loop.run_and_wait([&] { loop.after(3600 * kSecond, [held] {}); });
        loop.stop();
        loop.post([held, &loop] { loop.post([] {}); });
        CHECK(held.use_count() == 3);
    }
    CHECK(held.use_count() == 1);
}

TEST_CASE("two loops on one thread keep apart") {
    RealLoop a;
    RealLoop b;
    std::string order;
    a.post([&] {
        b.post([&] {
            CHECK(b.in_loop());
            CHECK(a.in_loop());  // this thread holds both
            a.post([&] { order += '3'; });
            order += '1';
        });
        order += '2';
    });
    CHECK(order == "123");
}

// --- descriptors -------------------------------------------------------------------------------------

namespace {

struct Event {
    Event() { REQUIRE(fd >= 0); }
    ~Event() { close(fd); }
    void raise() const {
        const uint64_t one = 1;
        CHECK(write(fd, &one, sizeof one) == sizeof one);
    }
    bool take() const {
        uint64_t value = 0;
        return read(fd, &value, sizeof value) > 0;
    }
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
};

}  // namespace

TEST_CASE("a watched descriptor runs its task each time it becomes ready, until it is not watched") {
    Event event;
    RealLoop loop;
    std::promise<void> first, second;
    int runs = 0;
    REQUIRE(loop.run_and_wait([&] {
        CHECK(loop.watch(event.fd, [&] {
            CHECK(loop.in_loop());
            CHECK(event.take());
            if (++runs == 1) first.set_value();
            if (runs == 2) second.set_value();
        }));
    }));
    event.raise();
    first.get_future().wait();
    event.raise();
    second.get_future().wait();
    REQUIRE(loop.run_and_wait([&] { loop.unwatch(event.fd); }));
    event.raise();
    settle(loop);
    CHECK(runs == 2);
}

TEST_CASE("a loop that is never idle looks at its descriptors all the same") {
    Event event;
    RealLoop loop;
    bool seen = false;
    int turns = 0;
    std::promise<void> busy, done;
    std::function<void()> again = [&] {
        if (++turns == 1) busy.set_value();
        if (seen) return done.set_value();
        loop.post(again);
    };
    REQUIRE(loop.run_and_wait([&] { loop.watch(event.fd, [&] { seen = event.take(); }); }));
    // Begun by the loop's own thread: it is the runner from here on.
    loop.after(0, again);
    busy.get_future().wait();
    event.raise();
    done.get_future().wait();
    CHECK(loop.run_and_wait([&] { loop.unwatch(event.fd); }));
}

TEST_CASE("a loop that expects something runs it, and timers, as one that sleeps") {
    Event event;
    RealLoop loop;
    std::promise<void> seen, rang, late;
    REQUIRE(loop.run_and_wait([&] {
        loop.watch(event.fd, [&] {
            CHECK(event.take());
            seen.set_value();
        });
        loop.after(kMillisecond, [&] { rang.set_value(); });
        loop.expect(1 << 30);  // it would look for minutes
    }));
    rang.get_future().wait();
    event.raise();
    seen.get_future().wait();
    REQUIRE(loop.run_and_wait([&] { loop.expect(1); }));  // looks in vain, then sleeps
    loop.after(2 * kMillisecond, [&] { late.set_value(); });
    late.get_future().wait();
    CHECK(loop.run_and_wait([&] { loop.unwatch(event.fd); }));
}
