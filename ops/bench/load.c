/* An open-loop HTTP load: requests become due at random moments (Poisson, a fixed seed) whatever the server does, and
 * a latency runs from the moment when its request was due, not from when it could be sent. A server that stalls
 * therefore shows in the percentiles with every request that fell due meanwhile ("coordinated omission").
 *
 *     load ADDRESS PORT CONNECTIONS RATE WARM_UP_SECONDS SECONDS PROFILES X_LANE TIMEOUT_SECONDS SEED
 *
 * Each request asks for a random one of PROFILES, and an answer counts if it is a 200 whose body holds that id.
 * Prints one JSON object for each second after the warm-up, as it ends:
 *
 *     {"second": 0, "due": requests that were sent, "latency": [[microseconds, requests], ...], "errors": {kind: n}}
 *
 * by when answers came; all that comes after the last second, or never comes, is in that one. `latency` has 3
 * significant digits; it holds the good answers, and the requests that were given up with the time that they had
 * waited. The last line tells of this program itself:
 *
 *     {"rate": ..., "late": [[microseconds, requests], ...], "cpu_share": of a core}
 *
 * `late` runs from when a request was due and a connection free until it was sent.
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

enum { BUFFER = 16384, CONNECTIONS_LIMIT = 1024, DRAIN_SECONDS = 3, CONNECT_SECONDS = 3, LOOK_MS = 20 };
enum { GOOD, SHED, WRONG_BODY, BROKEN, CONNECT, TIMEOUT, NOT_ANSWERED, KINDS, STATUSES = 600 };
static const char *const KIND_NAMES[KINDS] = {0,         "shed",    "wrong_body",  "broken_connection",
                                              "connect", "timeout", "not_answered"};

struct connection {
    enum { CLOSED, CONNECTING, IDLE, BUSY } state;
    int fd, received, measured;
    uint32_t profile;
    int64_t due_ns, started_ns, freed_ns;
    char buffer[BUFFER + 1];
};

static struct connection connections[CONNECTIONS_LIMIT];
static int available[CONNECTIONS_LIMIT], first_available, available_count; /* a ring: all connections take part */
static int epoll, count;
static struct sockaddr_in address = {.sin_family = AF_INET};
static uint32_t profiles;
static const char *lane;

/* Counts by value. Values have 11 significant bits, as those of an HDR histogram of 3 digits have. */
enum { SLOTS = 22 << 11 };
static uint32_t latency[SLOTS], late[SLOTS];
static long errors[KINDS], statuses[STATUSES], due_in_second;

static void add(uint32_t *histogram, int64_t us) {
    uint32_t value = us < 0 ? 0 : us < UINT32_MAX ? us : UINT32_MAX;
    int shift = value < 2048 ? 0 : 21 - __builtin_clz(value);
    histogram[(shift << 11) + (value >> shift)]++;
}

static void print_and_clear(const char *name, uint32_t *histogram) {
    printf("\"%s\": [", name);
    for (uint32_t i = 0, any = 0; i < SLOTS; i++) {
        if (!histogram[i]) continue;
        printf("%s[%u,%u]", any++ ? "," : "", (i & 2047) << (i >> 11), histogram[i]);
        histogram[i] = 0;
    }
    printf("]");
}

static void print_second(int second) {
    printf("{\"second\": %d, \"due\": %ld, ", second, due_in_second);
    print_and_clear("latency", latency);
    printf(", \"errors\": {");
    int any = 0;
    for (int i = 0; i < KINDS; i++)
        if (errors[i]) printf("%s\"%s\": %ld", any++ ? ", " : "", KIND_NAMES[i], errors[i]);
    for (int i = 0; i < STATUSES; i++)
        if (statuses[i]) printf("%s\"status_%d\": %ld", any++ ? ", " : "", i, statuses[i]);
    printf("}}\n");
    fflush(stdout);
    due_in_second = 0;
    memset(errors, 0, sizeof errors);
    memset(statuses, 0, sizeof statuses);
}

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

static void record(struct connection *c, int kind) {
    if (!c->measured) return;
    if (kind != GOOD) errors[kind]++;
    if (kind == GOOD || kind == TIMEOUT || kind == NOT_ANSWERED) add(latency, (now_ns() - c->due_ns) / 1000);
}

static void give_back(struct connection *c, int state) {
    if (state == CLOSED && c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    if (c->state == BUSY || c->state == CONNECTING)
        available[(first_available + available_count++) % count] = c - connections;
    c->state = state;
    c->received = 0;
    c->freed_ns = now_ns();
}

static void give_up(struct connection *c, int kind) {
    record(c, kind);
    give_back(c, CLOSED);
}

/* 0, or -1 with errno. A blocking one waits for CONNECT_SECONDS at most. */
static int open_connection(struct connection *c, int flags) {
    struct epoll_event event = {.events = flags ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.u32 = c - connections};
    struct timeval limit = {CONNECT_SECONDS, 0};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (c->fd < 0) return -1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* of connect too, socket(7) */
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) return -1;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void send_now(struct connection *c) {
    char text[256];
    c->state = BUSY;
    int length = snprintf(text, sizeof text, "GET /v1/profiles/p%u HTTP/1.1\r\nHost: bench\r\nX-Lane: %s\r\n\r\n",
                          c->profile, lane);
    if (send(c->fd, text, length, MSG_NOSIGNAL) != length) give_up(c, BROKEN);
}

static void send_request(int64_t due_ns, int measured) {
    struct connection *c = &connections[available[first_available]];
    first_available = (first_available + 1) % count;
    available_count--;
    int was = c->state;
    c->due_ns = due_ns;
    c->measured = measured;
    c->profile = random() % profiles;
    c->started_ns = now_ns();
    if (measured) add(late, (c->started_ns - (due_ns > c->freed_ns ? due_ns : c->freed_ns)) / 1000);
    c->state = CONNECTING;
    if (was == IDLE) send_now(c);
    else if (open_connection(c, SOCK_NONBLOCK) < 0) give_up(c, CONNECT);
}

static void connected(struct connection *c) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = c - connections};
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error || epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) < 0) give_up(c, CONNECT);
    else send_now(c);
}

/* Whether the answer is complete, or cannot be read; then `*closes` says whether the connection ends with it. */
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
    int status = c->received > 12 ? atoi(c->buffer + 9) : 0;
    if (status == 200) {
        record(c, strstr(end, id) ? GOOD : WRONG_BODY);
    } else {
        field = strcasestr(c->buffer, "\r\nRetry-After:");
        if (status == 503 && field && field < end) record(c, SHED);
        else if (c->measured) statuses[status > 0 && status < STATUSES ? status : 0]++;
    }
    return 1;
}

static void ready(struct connection *c) {
    if (c->state == CONNECTING) return connected(c);
    if (c->state == CLOSED) return; /* given up in this same round */
    ssize_t got = recv(c->fd, c->buffer + c->received, BUFFER - c->received, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return c->state == BUSY ? give_up(c, BROKEN) : give_back(c, CLOSED);
    c->received += got;
    int closes = 0;
    if (c->state == BUSY && receive(c, &closes)) give_back(c, closes ? CLOSED : IDLE);
}

static double interval_seconds(double rate) { return -log((random() + 1.0) / (RAND_MAX + 2.0)) / rate; }

int main(int argc, char **argv) {
    if (argc != 11) return fprintf(stderr, "load: 10 arguments expected, see load.c\n"), 2;
    int known = inet_aton(argv[1], &address.sin_addr);
    address.sin_port = htons(atoi(argv[2]));
    count = atoi(argv[3]);
    double rate = atof(argv[4]), warm_up = atof(argv[5]), seconds = atof(argv[6]), timeout = atof(argv[9]);
    profiles = strtoul(argv[7], 0, 10);
    lane = argv[8];
    if (!known || count < 1 || count > CONNECTIONS_LIMIT || !(rate > 0 && rate <= 1e6) || !profiles ||
        strlen(lane) > 20 || !(warm_up >= 0 && seconds > 0 && timeout > 0))
        return fprintf(stderr, "load: an argument is out of range\n"), 2;
    prctl(PR_SET_TIMERSLACK, 1);
    prctl(PR_SET_PDEATHSIG, 15);
    srandom(atoi(argv[10]));

    epoll = epoll_create1(0);
    if (epoll < 0) fail("epoll");
    for (int i = 0; i < count; i++) {
        connections[i].state = CONNECTING;
        if (open_connection(&connections[i], 0) < 0) fail("connect");
        give_back(&connections[i], IDLE);
    }

    int64_t start = now_ns() + 10000000, timeout_ns = timeout * 1e9;
    int64_t measured_from = start + (int64_t)(warm_up * 1e9);
    int64_t last_due = measured_from + (int64_t)(seconds * 1e9), end = last_due + DRAIN_SECONDS * 1000000000LL;
    int64_t now = now_ns(), began = now, look_at = now, second_ends = measured_from + 1000000000;
    double cpu = cpu_seconds(), at = interval_seconds(rate);
    int64_t due = start + (int64_t)(at * 1e9);
    int second = 0;
    struct epoll_event events[256];
    while (now < end && (due < last_due || available_count < count)) {
        int64_t wait = LOOK_MS * 1000000;
        if (due < last_due && available_count && due - now < wait) wait = due > now ? due - now : 0;
        struct timespec limit = {0, wait};
        int seen = epoll_pwait2(epoll, events, 256, &limit, 0);
        if (seen < 0 && errno != EINTR) fail("epoll");
        for (int i = 0; i < seen; i++) ready(&connections[events[i].data.u32]);
        now = now_ns();
        while (due <= now && due < last_due && available_count) {
            int measured = due >= measured_from;
            due_in_second += measured;
            send_request(due, measured);
            at += interval_seconds(rate);
            due = start + (int64_t)(at * 1e9);
        }
        if (now >= look_at) {
            look_at = now + LOOK_MS * 1000000;
            for (int i = 0; i < count; i++) {
                struct connection *c = &connections[i];
                if ((c->state == BUSY || c->state == CONNECTING) && c->started_ns + timeout_ns < now)
                    give_up(c, c->state == BUSY ? TIMEOUT : CONNECT);
            }
        }
        /* what comes after the last due moment belongs to the last second */
        for (; now >= second_ends && second_ends < last_due; second_ends += 1000000000) print_second(second++);
    }
    cpu = cpu_seconds() - cpu;

    /* what was never answered, or not even sent, has waited until now */
    for (int i = 0; i < count; i++)
        if (connections[i].state == BUSY || connections[i].state == CONNECTING)
            give_up(&connections[i], NOT_ANSWERED);
    while (due < last_due) {
        struct connection never = {.due_ns = due, .measured = due >= measured_from};
        due_in_second += never.measured;
        record(&never, NOT_ANSWERED);
        at += interval_seconds(rate);
        due = start + (int64_t)(at * 1e9);
    }
    print_second(second);
    printf("{\"rate\": %.1f, ", rate);
    print_and_clear("late", late);
    printf(", \"cpu_share\": %.3f}\n", cpu / ((now_ns() - began) / 1e9));
    return 0;
}
