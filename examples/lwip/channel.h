/* The channel of a guest program: one descriptor that carries frames, sockets and the time, in turns.
 *
 * A message is: length of what follows (32 bits), kind (8), handle (32), the fields of its kind, its payload; all in network order.
 * netemu says the time (TIME), any number of messages, and that it is the program's turn (TURN). The program does what they ask, runs its
 * timers, says all that it has to say, and ends its turn with WAIT: the time at which it wants the next one if nothing happens before.
 * It needs no clock, no thread and no other descriptor. docs/guests.md lists the kinds.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <stddef.h>
#include <stdint.h>

enum kind {
    OPEN_STREAM = 1, OPEN_LISTENER, OPEN_DATAGRAM, OPEN_PING, SEND_TO, SEND_ECHO, ABORT, CLOSE, DATA, TAKEN,
    FINISH, OPENED, FAILED, CONNECTED, ACCEPTED, DATAGRAM, UNDELIVERED, ECHO_REPLY, ICMP_ERROR, READ,
    CONFIGURE, FRAME, TIME, TURN, WAIT,
};

#define NEVER UINT64_MAX

struct message {
    enum kind kind;
    uint32_t handle;
    const uint8_t *body; /* fields, then payload */
    size_t length;
};

/* The next message on `fd`, good until the next call; 0 at the end of the channel. */
int channel_receive(int fd, struct message *message);

/* Begin a message, add to it, and keep it until channel_flush writes all that was said. */
void channel_begin(enum kind kind, uint32_t handle);
void channel_u8(uint8_t value);
void channel_u16(uint16_t value);
void channel_u32(uint32_t value);
void channel_u64(uint64_t value);
void channel_octets(const void *octets, size_t length);
int channel_flush(int fd);

/* Fields of a received message, in the order in which they stand; 0 behind its end. */
uint8_t take_u8(struct message *message);
uint16_t take_u16(struct message *message);
uint32_t take_u32(struct message *message);
uint64_t take_u64(struct message *message);

#endif
