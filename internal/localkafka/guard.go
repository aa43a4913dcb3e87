package localkafka

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Of each frame: its size; the key, version and correlation id of the request in it; and
// the largest that Kafka accepts by default (socket.request.max.bytes).
const (
	sizeBytes    = 4
	leastRequest = 8
	mostRequest  = 100 << 20
)

// guard keeps from the broker what is not a Kafka request. For an unknown API key kfake
// dereferences nil, in a goroutine of its own, before it asks for a password: one small
// frame from anybody would end the process. It also allocates whatever size is announced.
type guard struct {
	net.Listener
	log *slog.Logger // may be nil
}

func (g *guard) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guarded{Conn: conn, log: g.log}, nil
}

// guarded is a connection that reads as far as its frames are requests. It is read by one
// goroutine at a time.
type guarded struct {
	net.Conn
	log   *slog.Logger
	head  [sizeBytes + 2]byte // of the frame: its size and the API key
	ahead []byte              // what of head is not passed on yet
	left  int                 // what is to come of the frame, after head
}

// Read implements [io.Reader].
func (c *guarded) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 && c.left == 0 {
		if err := c.begin(); err != nil {
			return 0, err
		}
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// begin reads the head of the next frame.
func (c *guarded) begin() error {
	if _, err := io.ReadFull(c.Conn, c.head[:sizeBytes]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(c.head[:])
	if size < leastRequest || size > mostRequest {
		return c.refuse("size", int64(size))
	}
	if _, err := io.ReadFull(c.Conn, c.head[sizeBytes:]); err != nil {
		return err
	}
	if key := int16(binary.BigEndian.Uint16(c.head[sizeBytes:])); kmsg.RequestForKey(key) == nil {
		return c.refuse("api_key", int64(key))
	}
	c.ahead, c.left = c.head[:], int(size)-(len(c.head)-sizeBytes)
	return nil
}

// refuse logs why the connection ends: its reader closes it.
func (c *guarded) refuse(what string, value int64) error {
	if c.log != nil {
		c.log.Warn("connection closed: what it sent is not a Kafka request; is the client using the wrong port?",
			"component", "embedded kafka", "client", c.RemoteAddr().String(), what, value)
	}
	return fmt.Errorf("localkafka: not a Kafka request: %s %d", what, value)
}
