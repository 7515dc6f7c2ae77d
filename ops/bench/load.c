/* An open-loop HTTP load on loopback: requests become due at random moments (Poisson, a fixed seed) whatever the
 * server does, and a latency runs from the moment when its request was due, not from when it could be sent. A server
 * that stalls therefore shows in the percentiles with every request that fell due meanwhile ("coordinated omission").
 *
 *     load PORT CONNECTIONS RATE WARM_UP_SECONDS SECONDS PROFILES X_LANE
 *
 * Each request asks for a random one of PROFILES, and an answer counts if it is a 200 whose body holds that id.
 * Prints one JSON object: counts, errors by kind, percentiles in ms, and what this program itself came too late by:
 * `late_p99_ms`, from when a request was due and a connection free until it was sent, and its share of a core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 16384, CONNECTIONS_LIMIT = 1024, DRAIN_SECONDS = 3 };
enum { WRONG_STATUS, WRONG_BODY, BROKEN, NOT_ANSWERED, KINDS };
static const char *const KIND_NAMES[KINDS] = {"wrong_status", "wrong_body", "broken_connection", "not_answered"};

struct connection {
    int fd, busy, received;
    uint32_t request, profile;
    int64_t freed_ns;
    char buffer[BUFFER + 1];
};

static struct connection connections[CONNECTIONS_LIMIT];
static int idle[CONNECTIONS_LIMIT], idle_first, idle_count; /* a ring: all connections take part */
static int epoll, port, count;
static uint32_t profiles;
static const char *lane;

static int64_t *due_ns;       /* when each request falls due */
static uint32_t *latency_us;  /* by request; UINT32_MAX: none yet */
static uint32_t *late_us;     /* by request */
static uint32_t total, measured_from;
static long errors[KINDS];

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void set_idle(int index) {
    connections[index].busy = 0;
    connections[index].received = 0;
    connections[index].freed_ns = now_ns();
    idle[(idle_first + idle_count++) % count] = index;
}

static int open_connection(int index) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connections[index].fd = fd;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll");
    set_idle(index);
    return 0;
}

static void record(struct connection *c, int kind) {
    if (c->request >= measured_from && kind < KINDS) errors[kind]++;
    int64_t us = (now_ns() - due_ns[c->request]) / 1000;
    latency_us[c->request] = us < UINT32_MAX ? us : UINT32_MAX - 1;
}

/* A refusal to reconnect ends the program: the server is gone, and there is nothing to measure. */
static void reopen(int index) {
    close(connections[index].fd);
    if (open_connection(index) < 0) fail("connect");
}

static void send_request(uint32_t request) {
    int index = idle[idle_first];
    struct connection *c = &connections[index];
    idle_first = (idle_first + 1) % count;
    idle_count--;
    char text[256];
    c->busy = 1;
    c->request = request;
    c->profile = random() % profiles;
    int length = snprintf(text, sizeof text, "GET /v1/profiles/p%u HTTP/1.1\r\nHost: bench\r\nX-Lane: %s\r\n\r\n",
                          c->profile, lane);
    int64_t now = now_ns();
    int64_t could = due_ns[request] > c->freed_ns ? due_ns[request] : c->freed_ns;
    late_us[request] = now > could ? (now - could) / 1000 : 0;
    if (send(c->fd, text, length, MSG_NOSIGNAL) != length) {
        record(c, BROKEN);
        reopen(index);
    }
}

/* Whether the answer is complete. */
static int receive(struct connection *c, int *closes) {
    c->buffer[c->received] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n"), *field = strcasestr(c->buffer, "\r\nContent-Length:");
    if (!end) return c->received == BUFFER ? (record(c, WRONG_BODY), *closes = 1) : 0;
    if (!field || field > end) return record(c, WRONG_BODY), *closes = 1;
    long length = atol(field + 17);
    if (end + 4 + length > c->buffer + c->received) {
        if (end + 4 + length > c->buffer + BUFFER) return record(c, WRONG_BODY), *closes = 1;
        return 0;
    }
    field = strcasestr(c->buffer, "\r\nConnection: close");
    *closes = field && field < end;
    char id[32];
    snprintf(id, sizeof id, "\"id\":\"p%u\"", c->profile);
    if (strncmp(c->buffer, "HTTP/1.1 200 ", 13)) record(c, WRONG_STATUS);
    else record(c, strstr(end, id) ? KINDS : WRONG_BODY);
    return 1;
}

static void readable(int index) {
    struct connection *c = &connections[index];
    ssize_t got = recv(c->fd, c->buffer + c->received, BUFFER - c->received, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    int closes = 0;
    if (got <= 0) {
        if (c->busy) {
            record(c, BROKEN);
            reopen(index);
        } else { /* closed while idle: another takes its place, in the same place of the ring */
            for (int i = 0; i < idle_count; i++) {
                int at = (idle_first + i) % count;
                if (idle[at] != index) continue;
                idle[at] = idle[(idle_first + idle_count - 1) % count];
                idle_count--;
                break;
            }
            reopen(index);
        }
        return;
    }
    c->received += got;
    if (!c->busy || !receive(c, &closes)) return;
    if (closes) reopen(index);
    else set_idle(index);
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(const uint32_t *sorted, uint32_t length, double share) {
    if (!length) return 0;
    uint32_t at = (uint32_t)ceil(share * length);
    return sorted[at ? at - 1 : 0] / 1000.0;
}

int main(int argc, char **argv) {
    if (argc != 8) return fprintf(stderr, "load: 7 arguments expected, see load.c\n"), 2;
    port = atoi(argv[1]);
    count = atoi(argv[2]);
    double rate = atof(argv[3]), warm_up = atof(argv[4]), seconds = atof(argv[5]);
    profiles = strtoul(argv[6], 0, 10);
    lane = argv[7];
    if (count < 1 || count > CONNECTIONS_LIMIT || !(rate > 0 && rate <= 1e6) || !profiles || strlen(lane) > 20 ||
        !(warm_up >= 0 && seconds > 0 && warm_up + seconds <= 600))
        return fprintf(stderr, "load: an argument is out of range\n"), 2;
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_PDEATHSIG, 15);
    srandom(1);

    uint32_t room = (uint32_t)(rate * (warm_up + seconds) * 1.2) + 1000;
    due_ns = malloc(room * sizeof *due_ns);
    latency_us = malloc(room * sizeof *latency_us);
    late_us = calloc(room, sizeof *late_us);
    epoll = epoll_create1(0);
    if (!due_ns || !latency_us || !late_us || epoll < 0) fail("memory");
    for (int i = 0; i < count; i++)
        if (open_connection(i) < 0) fail("connect");

    int64_t start = now_ns() + 10000000;
    double at = 0;
    while (at < warm_up + seconds && total < room) {
        if (at < warm_up) measured_from = total + 1;
        due_ns[total] = start + (int64_t)(at * 1e9);
        latency_us[total++] = UINT32_MAX;
        at += -log((random() + 1.0) / (RAND_MAX + 2.0)) / rate;
    }
    if (measured_from >= total) return fprintf(stderr, "load: no request falls into the time\n"), 2;

    int64_t end = start + (int64_t)((warm_up + seconds + DRAIN_SECONDS) * 1e9), now = now_ns(), began = now;
    double cpu = cpu_seconds();
    uint32_t next = 0;
    struct epoll_event events[256];
    while (now < end && (next < total || idle_count < count)) {
        int64_t wait = end - now;
        if (next < total && idle_count) wait = due_ns[next] > now ? due_ns[next] - now : 0;
        struct timespec limit = {wait / 1000000000, wait % 1000000000};
        int ready = epoll_pwait2(epoll, events, 256, &limit, 0);
        if (ready < 0 && errno != EINTR) fail("epoll");
        for (int i = 0; i < ready; i++) readable(events[i].data.u32);
        now = now_ns();
        while (next < total && idle_count && due_ns[next] <= now) send_request(next++);
    }
    cpu = cpu_seconds() - cpu;

    /* what was never answered has waited at least until now */
    for (uint32_t i = 0; i < total; i++)
        if (latency_us[i] == UINT32_MAX) {
            int64_t us = (now - due_ns[i]) / 1000;
            latency_us[i] = us > 0 ? us : 0;
            errors[NOT_ANSWERED] += i >= measured_from;
        }
    uint32_t length = total - measured_from;
    qsort(latency_us + measured_from, length, sizeof *latency_us, compare);
    qsort(late_us + measured_from, length, sizeof *late_us, compare);
    const uint32_t *latencies = latency_us + measured_from, *late = late_us + measured_from;
    printf("{\"requests\": %u, \"rate\": %.1f, \"errors\": {", length, rate);
    for (int i = 0, any = 0; i < KINDS; i++)
        if (errors[i]) printf("%s\"%s\": %ld", any++ ? ", " : "", KIND_NAMES[i], errors[i]);
    printf("}, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, "
           "\"late_p99_ms\": %.3f, \"cpu_share\": %.3f}\n",
           percentile_ms(latencies, length, 0.5), percentile_ms(latencies, length, 0.9),
           percentile_ms(latencies, length, 0.99), percentile_ms(latencies, length, 0.999),
           latencies[length - 1] / 1000.0, percentile_ms(late, length, 0.99), cpu / ((now_ns() - began) / 1e9));
    return 0;
}
