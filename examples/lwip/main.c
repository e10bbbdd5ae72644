/* lwIP as a guest of netemu: Debian's library behind the guest program's channel (channel.h).
 *
 * lwIP runs in this one thread, through its raw API, and takes the time from the channel (sys_now), so its timers live in netemu's clock.
 * What each socket is asked for, and what it answers, mirrors netemu/guest/agent.py.
 */
#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/etharp.h>
#include <lwip/icmp.h>
#include <lwip/inet_chksum.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/prot/icmp.h>
#include <lwip/prot/ip4.h>
#include <lwip/raw.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <lwip/udp.h>
#include <netif/ethernet.h>

enum { WINDOW = 65536, CHUNK = 8192, MAC = 6, TCP_BACKLOG = 16, LONGEST_FRAME = 65535 };

struct part {
    uint32_t handle;
    struct part *next;
    void (*receive)(struct part *, struct message *);
    struct tcp_pcb *tcp;
    struct udp_pcb *udp;
    struct raw_pcb *raw;
    uint8_t out[WINDOW]; /* what lwIP has no room for yet */
    size_t out_length;
    struct pbuf *in; /* what the other side of the channel has no room for yet */
    size_t window;
    int connected, finish_said, eof, finishing, closing;
};

static struct part *parts;
static uint32_t next_accepted = 1;
static uint64_t now;
static struct netif interface;

/* Replaces the library's own, which asks the system. */
u32_t sys_now(void) { return now / 1000000; }

/* Parts */

static struct part *add_part(uint32_t handle, void (*receive)(struct part *, struct message *))
{
    struct part *part = calloc(1, sizeof *part);
    if (!part)
        abort();
    *part = (struct part) { .handle = handle, .receive = receive, .window = WINDOW, .next = parts };
    return parts = part;
}

static struct part *find_part(uint32_t handle)
{
    struct part *part = parts;
    while (part && part->handle != handle)
        part = part->next;
    return part;
}

static void remove_part(struct part *gone)
{
    for (struct part **at = &parts; *at; at = &(*at)->next)
        if (*at == gone) {
            *at = gone->next;
            if (gone->in)
                pbuf_free(gone->in);
            free(gone);
            return;
        }
}

/* What is said */

static void say_endpoint(const ip_addr_t *address, u16_t port)
{
    channel_u32(lwip_ntohl(ip_addr_get_ip4_u32(address)));
    channel_u16(port);
}

static void say_opened(enum kind kind, uint32_t handle, const ip_addr_t *address, u16_t port)
{
    channel_begin(kind, handle);
    say_endpoint(address, port);
}

static void say_failed(uint32_t handle, int error)
{
    channel_begin(FAILED, handle);
    channel_u32(error);
}

static void say_pbuf(const struct pbuf *p, size_t skip, size_t length)
{
    static uint8_t octets[LONGEST_FRAME];
    length = LWIP_MIN(length, sizeof octets);
    channel_octets(octets, pbuf_copy_partial(p, octets, length, skip));
}

static int errno_of(err_t error, int connected)
{
    switch (error) {
    case ERR_RST: return connected ? ECONNRESET : ECONNREFUSED;
    case ERR_ABRT: case ERR_TIMEOUT: return ETIMEDOUT;
    case ERR_RTE: return ENETUNREACH;
    case ERR_USE: return EADDRINUSE;
    case ERR_ISCONN: return EISCONN;
    case ERR_VAL: case ERR_ARG: return EINVAL;
    default: return ENOBUFS;
    }
}

static ip_addr_t take_address(struct message *message)
{
    return (ip_addr_t) IPADDR4_INIT(lwip_htonl(take_u32(message)));
}

/* TCP */

static void tcp_forget(struct part *part)
{
    tcp_arg(part->tcp, NULL);
    tcp_recv(part->tcp, NULL);
    tcp_sent(part->tcp, NULL);
    tcp_err(part->tcp, NULL);
    part->tcp = NULL;
}

static void tcp_push(struct part *part)
{
    size_t count = LWIP_MIN(part->out_length, tcp_sndbuf(part->tcp));
    if (part->connected && count && tcp_write(part->tcp, part->out, count, TCP_WRITE_FLAG_COPY) == ERR_OK) {
        part->out_length -= count;
        memmove(part->out, part->out + count, part->out_length);
        channel_begin(TAKEN, part->handle);
        channel_u32(count);
        tcp_output(part->tcp);
    }
    if (part->connected && !part->out_length && part->finishing) {
        part->finishing = 0;
        tcp_shutdown(part->tcp, 0, 1);
    }
    if (!part->out_length && part->closing) {
        struct tcp_pcb *pcb = part->tcp;
        tcp_forget(part);
        if (tcp_close(pcb) != ERR_OK)
            tcp_abort(pcb);
        remove_part(part);
    }
}

static void tcp_pull(struct part *part)
{
    while (part->in && part->window) {
        size_t count = LWIP_MIN(LWIP_MIN(part->in->tot_len, part->window), CHUNK);
        channel_begin(DATA, part->handle);
        say_pbuf(part->in, 0, count);
        part->in = pbuf_free_header(part->in, count);
        part->window -= count;
        tcp_recved(part->tcp, count);
    }
    if (!part->in && part->eof && !part->finish_said) {
        part->finish_said = 1;
        channel_begin(FINISH, part->handle);
    }
}

static err_t tcp_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t error)
{
    struct part *part = arg;
    (void)pcb, (void)error;
    if (!p)
        part->eof = 1;
    else if (part->in)
        pbuf_cat(part->in, p);
    else
        part->in = p;
    tcp_pull(part);
    return ERR_OK;
}

static err_t tcp_acknowledged(void *arg, struct tcp_pcb *pcb, u16_t length)
{
    (void)pcb, (void)length;
    tcp_push(arg);
    return ERR_OK;
}

static void tcp_failed(void *arg, err_t error)
{
    struct part *part = arg;
    part->tcp = NULL; /* lwIP has freed it */
    say_failed(part->handle, errno_of(error, part->connected));
}

static void tcp_asked(struct part *part, struct message *message)
{
    int ends = message->kind == CLOSE || message->kind == ABORT;
    if (!part->tcp) {
        if (ends)
            remove_part(part);
        return;
    }
    switch (message->kind) {
    case DATA:
        if (message->length > sizeof part->out - part->out_length)
            exit(EXIT_FAILURE); /* beyond the window */
        memcpy(part->out + part->out_length, message->body, message->length);
        part->out_length += message->length;
        break;
    case TAKEN: part->window += take_u32(message); break;
    case FINISH: part->finishing = 1; break;
    case CLOSE: part->closing = 1; break;
    case ABORT: {
        struct tcp_pcb *pcb = part->tcp;
        tcp_forget(part);
        tcp_abort(pcb);
        remove_part(part);
        return;
    }
    default: return;
    }
    tcp_pull(part);
    tcp_push(part);
}

static void tcp_watch(struct part *part, struct tcp_pcb *pcb)
{
    part->tcp = pcb;
    tcp_arg(pcb, part);
    tcp_recv(pcb, tcp_received);
    tcp_sent(pcb, tcp_acknowledged);
    tcp_err(pcb, tcp_failed);
}

static err_t tcp_established(void *arg, struct tcp_pcb *pcb, err_t error)
{
    struct part *part = arg;
    (void)error;
    part->connected = 1;
    say_opened(CONNECTED, part->handle, &pcb->local_ip, pcb->local_port);
    tcp_push(part);
    return ERR_OK;
}

static void open_stream(struct message *message)
{
    ip_addr_t remote = take_address(message);
    u16_t remote_port = take_u16(message);
    ip_addr_t local = take_address(message);
    u16_t local_port = take_u16(message);
    struct part *part = add_part(message->handle, tcp_asked);
    struct tcp_pcb *pcb = tcp_new();
    err_t error = tcp_bind(pcb, &local, local_port);
    tcp_watch(part, pcb);
    if (error == ERR_OK)
        error = tcp_connect(pcb, &remote, remote_port, tcp_established);
    if (error != ERR_OK) {
        tcp_forget(part);
        tcp_abort(pcb);
        say_failed(part->handle, errno_of(error, 0));
    }
}

static err_t tcp_arrived(void *arg, struct tcp_pcb *pcb, err_t error)
{
    struct part *listener = arg;
    if (error != ERR_OK || !pcb)
        return ERR_VAL;
    struct part *part = add_part(next_accepted, tcp_asked);
    next_accepted += 2;
    tcp_watch(part, pcb);
    part->connected = 1;
    channel_begin(ACCEPTED, listener->handle);
    channel_u32(part->handle);
    say_endpoint(&pcb->local_ip, pcb->local_port);
    say_endpoint(&pcb->remote_ip, pcb->remote_port);
    return ERR_OK;
}

static void listener_asked(struct part *part, struct message *message)
{
    if (message->kind != CLOSE)
        return;
    tcp_arg(part->tcp, NULL);
    tcp_accept(part->tcp, NULL);
    tcp_close(part->tcp);
    remove_part(part);
}

static void open_listener(struct message *message)
{
    ip_addr_t local = take_address(message);
    struct tcp_pcb *pcb = tcp_new();
    err_t error = tcp_bind(pcb, &local, take_u16(message));
    if (error != ERR_OK) {
        tcp_close(pcb);
        say_failed(message->handle, errno_of(error, 0));
        return;
    }
    struct part *part = add_part(message->handle, listener_asked);
    part->tcp = tcp_listen_with_backlog(pcb, TCP_BACKLOG);
    tcp_arg(part->tcp, part);
    tcp_accept(part->tcp, tcp_arrived);
    say_opened(OPENED, part->handle, &part->tcp->local_ip, part->tcp->local_port);
}

/* UDP */

static void udp_received(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *source, u16_t port)
{
    struct part *part = arg;
    (void)pcb;
    channel_begin(DATAGRAM, part->handle);
    say_endpoint(source, port);
    say_pbuf(p, 0, p->tot_len);
    pbuf_free(p);
}

static void udp_asked(struct part *part, struct message *message)
{
    if (message->kind == CLOSE) {
        udp_remove(part->udp);
        remove_part(part);
    } else if (message->kind == SEND_TO) {
        ip_addr_t destination = take_address(message);
        u16_t port = take_u16(message);
        part->udp->ttl = take_u8(message);
        struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, message->length, PBUF_RAM);
        pbuf_take(p, message->body, message->length);
        err_t error = udp_sendto(part->udp, p, &destination, port);
        pbuf_free(p);
        if (error != ERR_OK) {
            channel_begin(UNDELIVERED, part->handle);
            channel_u32(errno_of(error, 0));
            say_endpoint(&destination, port);
        }
    }
}

static void open_datagram(struct message *message)
{
    ip_addr_t local = take_address(message);
    struct udp_pcb *pcb = udp_new();
    err_t error = udp_bind(pcb, &local, take_u16(message));
    if (error != ERR_OK) {
        udp_remove(pcb);
        say_failed(message->handle, errno_of(error, 0));
        return;
    }
    struct part *part = add_part(message->handle, udp_asked);
    part->udp = pcb;
    ip_set_option(pcb, SOF_BROADCAST);
    udp_recv(pcb, udp_received, part);
    say_opened(OPENED, part->handle, &pcb->local_ip, pcb->local_port);
}

/* Pings: the handle is the identifier */

static void say_icmp(struct part *part, const ip_addr_t *source, const uint8_t *octets, size_t length)
{
    const struct icmp_echo_hdr *icmp = (const void *)octets;
    if (icmp->type == ICMP_ER && icmp->id == lwip_htons(part->handle)) {
        channel_begin(ECHO_REPLY, part->handle);
        channel_u32(lwip_ntohl(ip_addr_get_ip4_u32(source)));
        channel_u16(lwip_ntohs(icmp->seqno));
        channel_octets(octets + sizeof *icmp, length - sizeof *icmp);
        return;
    }
    const struct ip_hdr *quoted = (const void *)(octets + sizeof *icmp);
    if (icmp->type == ICMP_ER || icmp->type == ICMP_ECHO || length < sizeof *icmp + sizeof *quoted)
        return;
    size_t at = sizeof *icmp + IPH_HL_BYTES(quoted);
    const struct icmp_echo_hdr *asked = (const void *)(octets + at);
    if (length < at + sizeof *asked || IPH_PROTO(quoted) != IP_PROTO_ICMP || asked->id != lwip_htons(part->handle))
        return;
    channel_begin(ICMP_ERROR, part->handle);
    channel_u8(icmp->type);
    channel_u8(icmp->code);
    channel_u32(lwip_ntohl(ip_addr_get_ip4_u32(source)));
    channel_u16(lwip_ntohs(asked->seqno));
}

static u8_t raw_received(void *arg, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *source)
{
    static uint8_t octets[LONGEST_FRAME];
    (void)pcb;
    size_t length = pbuf_copy_partial(p, octets, sizeof octets, 0);
    if (length >= IP_HLEN) {
        size_t header = IPH_HL_BYTES((const struct ip_hdr *)octets);
        if (length >= header + sizeof(struct icmp_echo_hdr))
            say_icmp(arg, source, octets + header, length - header);
    }
    return 0; /* lwIP itself answers what is to be answered */
}

static void ping_asked(struct part *part, struct message *message)
{
    if (message->kind == CLOSE) {
        raw_remove(part->raw);
        remove_part(part);
    } else if (message->kind == SEND_ECHO) {
        ip_addr_t destination = take_address(message);
        u16_t sequence = take_u16(message);
        part->raw->ttl = take_u8(message);
        struct pbuf *p = pbuf_alloc(PBUF_IP, sizeof(struct icmp_echo_hdr) + message->length, PBUF_RAM);
        struct icmp_echo_hdr *icmp = p->payload;
        *icmp = (struct icmp_echo_hdr) { .type = ICMP_ECHO, .id = lwip_htons(part->handle), .seqno = lwip_htons(sequence) };
        memcpy(icmp + 1, message->body, message->length);
        icmp->chksum = inet_chksum(icmp, p->len);
        err_t error = raw_sendto(part->raw, p, &destination);
        pbuf_free(p);
        if (error != ERR_OK) {
            channel_begin(ICMP_ERROR, part->handle);
            channel_u8(ICMP_DUR);
            channel_u8(ICMP_DUR_NET);
            channel_u32(0);
            channel_u16(sequence);
        }
    }
}

static void open_ping(struct message *message)
{
    struct part *part = add_part(message->handle, ping_asked);
    part->raw = raw_new(IP_PROTO_ICMP);
    raw_recv(part->raw, raw_received, part);
    say_opened(OPENED, part->handle, IP4_ADDR_ANY, 0);
}

/* The card */

static err_t card_output(struct netif *netif, struct pbuf *p)
{
    (void)netif;
    channel_begin(FRAME, 0);
    say_pbuf(p, 0, p->tot_len);
    return ERR_OK;
}

static err_t card_init(struct netif *netif)
{
    const unsigned char *mac = netif->state;
    memcpy(netif->hwaddr, mac, MAC);
    netif->hwaddr_len = MAC;
    netif->mtu = 1500;
    netif->name[0] = 'e';
    netif->name[1] = 't';
    netif->output = etharp_output;
    netif->linkoutput = card_output;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    return ERR_OK;
}

static void card_input(struct message *message)
{
    struct pbuf *p = pbuf_alloc(PBUF_RAW, message->length, PBUF_RAM);
    if (!p)
        return;
    pbuf_take(p, message->body, message->length);
    if (interface.input(p, &interface) != ERR_OK)
        pbuf_free(p);
}

static void configure(struct message *message)
{
    ip_addr_t address = take_address(message);
    uint8_t prefix = take_u8(message);
    ip4_addr_t mask = { lwip_htonl(prefix ? ~(uint32_t)0 << (32 - prefix) : 0) };
    ip_addr_t router = take_address(message);
    netif_set_addr(&interface, ip_2_ip4(&address), &mask, ip_2_ip4(&router));
    say_opened(OPENED, message->handle, &address, 0);
}

/* Turns */

static void end_turn(void)
{
    u32_t sleep;
    do
        sys_check_timeouts();
    while ((sleep = sys_timeouts_sleeptime()) == 0);
    channel_begin(WAIT, 0);
    channel_u64(sleep == SYS_TIMEOUTS_SLEEPTIME_INFINITE ? NEVER : (now / 1000000 + sleep) * 1000000);
}

static void receive(struct message *message)
{
    struct part *part = find_part(message->handle);
    if (part) {
        part->receive(part, message);
        return;
    }
    switch (message->kind) {
    case OPEN_STREAM: open_stream(message); break;
    case OPEN_LISTENER: open_listener(message); break;
    case OPEN_DATAGRAM: open_datagram(message); break;
    case OPEN_PING: open_ping(message); break;
    case CONFIGURE: configure(message); break;
    case FRAME: card_input(message); break;
    case TIME: now = take_u64(message); break;
    case TURN: end_turn(); break;
    default: break; /* about a socket that is gone */
    }
}

int main(int argc, char **argv)
{
    unsigned char mac[MAC];
    if (argc != 3 || sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != MAC) {
        fprintf(stderr, "usage: %s DESCRIPTOR MAC\n", argv[0]);
        return EXIT_FAILURE;
    }
    int fd = atoi(argv[1]);
    lwip_init();
    netif_add(&interface, NULL, NULL, NULL, mac, card_init, ethernet_input);
    netif_set_default(&interface);
    netif_set_up(&interface);
    netif_set_link_up(&interface);
    say_opened(OPENED, 0, IP4_ADDR_ANY, 0);
    struct message message;
    while (channel_receive(fd, &message)) {
        receive(&message);
        if (message.kind == TURN && !channel_flush(fd))
            break;
    }
    return EXIT_SUCCESS;
}
