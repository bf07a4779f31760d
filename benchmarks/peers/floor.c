/* The floor of fan-out: one send() per reader and event, as cheap as the kernel lets it be.
 *
 * The sockets were accepted and shaken hands with by floor.py; this sends `count` WebSocket text frames to each of the
 * `n` file descriptors, `rate` a second (0: no pace), `per_write` frames in one send(). Returns the frames sent, or
 * -errno. A reader whose socket is full is waited for (epoll), for the row says what readers who keep up cost. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD 150
#define FRAMES 64

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* One unmasked text frame (RFC 6455, section 5.2); a payload of 126 to 65535 bytes has its length in two more bytes. */
static int frame(unsigned char *out) {
    char token[40];
    int size = snprintf(token, sizeof token, "~%lld \"}", now_ns());
    static const char head[] = "{\"type\":\"token\",\"pad\":\"";
    unsigned char *body = out + 4;
    out[0] = 0x81, out[1] = 126, out[2] = PAYLOAD >> 8, out[3] = PAYLOAD & 0xff;
    memset(body, 'x', PAYLOAD);
    memcpy(body, head, sizeof head - 1);
    static const char middle[] = "\",\"content\":\"";
    int tail = size + (int)sizeof middle - 1;
    memcpy(body + PAYLOAD - tail, middle, sizeof middle - 1);
    memcpy(body + PAYLOAD - size, token, size);
    return 4 + PAYLOAD;
}

static int send_all(int poller, int fd, const unsigned char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            data += sent, size -= sent;
        } else if (errno == EAGAIN) {
            struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
            if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) return -errno;
            int ready = epoll_wait(poller, &event, 1, 30000);
            epoll_ctl(poller, EPOLL_CTL_DEL, fd, &event);
            if (ready <= 0) return ready ? -errno : -ETIMEDOUT;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

long long broadcast(const int *fds, int n, long long count, double rate, int per_write) {
    static unsigned char data[FRAMES * (4 + PAYLOAD)];
    long long sent = 0;
    if (per_write < 1 || per_write > FRAMES) return -EINVAL;
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) return -errno;
    long long start = now_ns();
    for (long long number = 0; number < count; number += per_write) {
        if (rate > 0) {
            long long at = start + (long long)(number / rate * 1e9);
            struct timespec t = {at / 1000000000LL, at % 1000000000LL};
            while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
        }
        size_t size = 0;
        int frames = count - number < per_write ? (int)(count - number) : per_write;
        for (int i = 0; i < frames; i++) size += frame(data + size);
        for (int i = 0; i < n; i++) {
            int error = send_all(poller, fds[i], data, size);
            if (error) { close(poller); return error; }
            sent += frames;
        }
    }
    close(poller);
    return sent;
}
