package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// run sends the load and waits for the answers to all that was sent.
func (l generator) run(ctx context.Context) (*loaded, error) {
	s, err := newSender(l)
	if err != nil {
		return nil, err
	}
	defer s.close()
	// The thread blocks in epoll; the other goroutines go on with theirs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := s.send(ctx); err != nil {
		return nil, fmt.Errorf("load on %s: %w", l.addr, err)
	}
	return s.loaded, nil
}

// answerTimeout bounds the wait for what is under way at the end.
const answerTimeout = 30 * time.Second

// sender is a generator that is being sent. It belongs to one goroutine.
type sender struct {
	generator
	*loaded
	to      unix.Sockaddr
	epoll   int
	timer   int // a timerfd: epoll's own time-out is too coarse for thousands a second
	conns   map[int]*conn
	idle    []*conn     // the one that has been idle longest first
	waiting []time.Time // when the requests were due that no connection was free for
	sent    int         // so far
}

// conn is a connection with at most one request under way.
type conn struct {
	fd   int  // -1 while there is none
	busy bool // with a request, which is due at that time
	due  time.Time
	// The answer so far. Answers are a few hundred bytes.
	answer [4096]byte
	n      int
}

func newSender(l generator) (*sender, error) {
	addr, err := netip.ParseAddrPort(l.addr)
	if err != nil {
		return nil, err
	}
	s := &sender{generator: l, loaded: newLoaded(), to: &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()},
		epoll: -1, timer: -1, conns: make(map[int]*conn)}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		s.close()
		return nil, err
	}
	if err := s.watch(s.timer); err != nil {
		s.close()
		return nil, err
	}
	for range l.connections {
		c := &conn{fd: -1}
		s.idle = append(s.idle, c)
		if l.anew {
			continue
		}
		if err := s.connect(c); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *sender) close() {
	for fd := range s.conns {
		unix.Close(fd)
	}
	for _, fd := range []int{s.timer, s.epoll} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (s *sender) watch(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// connect opens the connection: on loopback that takes microseconds.
func (s *sender) connect(c *conn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	c.fd = fd
	s.conns[fd] = c
	if err := unix.Connect(fd, s.to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	// Closing resets the connection, or ports would run out for a minute each.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return s.watch(fd)
}

// send is the loop: it sends what is due, and then waits for answers and for what
// falls due next.
func (s *sender) send(ctx context.Context) error {
	start := time.Now()
	s.from = start.Add(s.warmup)
	s.until = s.from.Add(s.measured)
	var due *duePace
	if s.rate > 0 {
		due = newDuePace(s.rate, start)
	}
	events := make([]unix.EpollEvent, 512)
	for ended := false; ; {
		now := time.Now()
		over := !now.Before(s.until)
		for due != nil && !due.next.After(now) && due.next.Before(s.until) {
			s.waiting = append(s.waiting, due.step())
		}
		// The first time that it is over, what fell due in the last moment is sent.
		for !ended && len(s.idle) > 0 && (due == nil && !over || len(s.waiting) > 0) {
			at := now
			if due != nil {
				at = s.waiting[0]
				s.waiting = s.waiting[1:]
			}
			if err := s.dispatch(at); err != nil {
				return err
			}
		}
		ended = over
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case over && len(s.idle) == s.connections:
			s.giveUp(now)
			return nil
		case now.After(s.until.Add(answerTimeout)):
			return fmt.Errorf("%d requests have no answer after %v", s.connections-len(s.idle), answerTimeout)
		}
		wake := s.until
		switch {
		case over:
			wake = now.Add(time.Second)
		case due != nil && due.next.Before(wake):
			wake = due.next
		}
		if err := s.wait(time.Until(wake), events); err != nil {
			return err
		}
	}
}

// giveUp has in the latency what was never sent.
func (s *sender) giveUp(now time.Time) {
	s.unsent = len(s.waiting)
	for _, due := range s.waiting {
		if due.After(s.from) {
			s.record(now.Sub(due))
		}
	}
}

// dispatch sends the next request, due at that time, on a connection that is idle.
func (s *sender) dispatch(due time.Time) error {
	c := s.idle[0]
	s.idle = s.idle[1:]
	if c.fd < 0 {
		if err := s.connect(c); err != nil {
			return err
		}
	}
	request := s.request(s.sent, due)
	s.sent++
	c.busy, c.due, c.n = true, due, 0
	n, err := unix.Write(c.fd, request)
	if err == unix.EPIPE || err == unix.ECONNRESET {
		s.ended(c)
		return nil
	}
	if err == nil && n < len(request) {
		err = errors.New("the socket's buffer has no room for it")
	}
	if err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	return nil
}

// wait waits until an answer has come, and for no longer than that, and takes in
// the answers.
func (s *sender) wait(most time.Duration, events []unix.EpollEvent) error {
	timeout := -1
	if most <= 0 {
		timeout = 0
	} else {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(most))}
		if err := unix.TimerfdSettime(s.timer, 0, &at, nil); err != nil {
			return fmt.Errorf("set a timer: %w", err)
		}
	}
	n, err := unix.EpollWait(s.epoll, events, timeout)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for answers: %w", err)
	}
	for _, event := range events[:max(n, 0)] {
		fd := int(event.Fd)
		if fd == s.timer {
			var expirations [8]byte
			unix.Read(fd, expirations[:]) // it has expired: no more is asked of it
			continue
		}
		if err := s.read(s.conns[fd]); err != nil {
			return err
		}
	}
	return nil
}

// read takes in what has come of an answer.
func (s *sender) read(c *conn) error {
	n, err := unix.Read(c.fd, c.answer[c.n:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err == unix.ECONNRESET || err == nil && (n == 0 || !c.busy): // whatever an idle one says
		s.ended(c)
		return nil
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	}
	c.n += n
	status, whole, err := parseAnswer(c.answer[:c.n])
	if err != nil || !whole {
		return err
	}
	s.answered(c, status)
	if s.anew {
		s.disconnect(c)
	}
	return nil
}

// ended takes in that the server has closed the connection. The next request on
// it opens another.
func (s *sender) ended(c *conn) {
	s.disconnect(c)
	if c.busy {
		s.answered(c, 0)
	}
}

func (s *sender) disconnect(c *conn) {
	delete(s.conns, c.fd)
	unix.Close(c.fd) // which also ends the watch
	c.fd = -1
}

// answered has c idle again.
func (s *sender) answered(c *conn, status int) {
	c.busy = false
	s.idle = append(s.idle, c)
	now := time.Now()
	s.answers[status]++
	if status/100 == 2 && !now.Before(s.from) && now.Before(s.until) {
		s.acknowledged++
	}
	if !c.due.Before(s.from) && c.due.Before(s.until) {
		s.record(now.Sub(c.due))
	}
}
