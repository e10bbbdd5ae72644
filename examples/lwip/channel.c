#include "channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 9, LENGTH = 4, LONGEST = 1 << 20 };

static uint8_t input[LENGTH + LONGEST];
static uint8_t *output;
static size_t said, room, begun;

static int read_all(int fd, uint8_t *into, size_t length)
{
    while (length) {
        ssize_t count = read(fd, into, length);
        if (count == 0 || (count < 0 && errno != EINTR))
            return 0;
        if (count > 0) {
            into += count;
            length -= count;
        }
    }
    return 1;
}

static uint64_t take(struct message *message, size_t octets)
{
    uint64_t value = 0;
    if (message->length < octets)
        return 0;
    for (size_t i = 0; i < octets; i++)
        value = value << 8 | message->body[i];
    message->body += octets;
    message->length -= octets;
    return value;
}

uint8_t take_u8(struct message *message) { return take(message, 1); }
uint16_t take_u16(struct message *message) { return take(message, 2); }
uint32_t take_u32(struct message *message) { return take(message, 4); }
uint64_t take_u64(struct message *message) { return take(message, 8); }

int channel_receive(int fd, struct message *message)
{
    if (!read_all(fd, input, LENGTH))
        return 0;
    struct message header = { .body = input, .length = LENGTH };
    uint32_t length = take_u32(&header);
    if (length < HEADER - LENGTH || length > LONGEST || !read_all(fd, input, length))
        return 0;
    *message = (struct message) { .body = input, .length = length };
    message->kind = take_u8(message);
    message->handle = take_u32(message);
    return 1;
}

static void set_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = value >> (24 - 8 * i);
}

void channel_octets(const void *octets, size_t length)
{
    if (said + length > room) {
        room = 2 * (said + length);
        output = realloc(output, room);
        if (!output)
            abort();
    }
    memcpy(output + said, octets, length);
    said += length;
    if (begun < said)
        set_u32(output + begun, said - begun - LENGTH);
}

void channel_begin(enum kind kind, uint32_t handle)
{
    uint8_t header[HEADER] = { [LENGTH] = kind };
    set_u32(header + LENGTH + 1, handle);
    begun = said;
    channel_octets(header, HEADER);
}

static void put(uint64_t value, size_t octets)
{
    uint8_t packed[8];
    for (size_t i = 0; i < octets; i++)
        packed[i] = value >> 8 * (octets - 1 - i);
    channel_octets(packed, octets);
}

void channel_u8(uint8_t value) { put(value, 1); }
void channel_u16(uint16_t value) { put(value, 2); }
void channel_u32(uint32_t value) { put(value, 4); }
void channel_u64(uint64_t value) { put(value, 8); }

int channel_flush(int fd)
{
    size_t sent = 0;
    while (sent < said) {
        ssize_t count = write(fd, output + sent, said - sent);
        if (count < 0 && errno != EINTR)
            return 0;
        if (count > 0)
            sent += count;
    }
    said = begun = 0;
    return 1;
}
