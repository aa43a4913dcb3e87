package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// answerTimeout bounds the wait for the requests in flight at the end.
const answerTimeout = 30 * time.Second

// sender is a generator that is being sent. It belongs to one goroutine.
type sender struct {
	generator
	*loaded
	epoll   int
	timer   int // a timerfd: epoll's own time-out is too coarse for thousands a second
	conns   map[int]*conn
	idle    []*conn     // the one that has been idle longest first
	waiting []time.Time // when the requests were due that no connection was free for
}

// conn is a connection with at most one request in flight.
type conn struct {
	fd     int
	due    time.Time // of the request
	answer [4096]byte
	n      int // bytes of the answer so far
}

// run sends the load and waits for the answers to all that was sent.
func (l generator) run(ctx context.Context) (*loaded, error) {
	s := &sender{generator: l, loaded: &loaded{}, epoll: -1, timer: -1, conns: make(map[int]*conn)}
	defer func() {
		for fd := range s.conns {
			unix.Close(fd)
		}
		unix.Close(s.timer)
		unix.Close(s.epoll)
	}()
	// The thread blocks in epoll; the other goroutines go on with theirs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := s.open()
	if err == nil {
		err = s.send(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("load on %s: %w", l.addr, err)
	}
	return s.loaded, nil
}

// open opens the connections: on loopback that takes microseconds.
func (s *sender) open() error {
	addr, err := netip.ParseAddrPort(s.addr)
	if err != nil {
		return err
	}
	to := &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return err
	}
	watch := func(fd int) error {
		return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	for range s.connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		s.conns[fd] = &conn{fd: fd}
		s.idle = append(s.idle, s.conns[fd])
		err = errors.Join(unix.Connect(fd, to), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), unix.SetNonblock(fd, true), watch(fd))
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	return watch(s.timer)
}

// send is the loop: it sends what is due, then waits for answers and for the next
// request to fall due.
func (s *sender) send(ctx context.Context) error {
	start := time.Now()
	s.from = start.Add(s.warmup)
	s.until = s.from.Add(s.measured)
	rng, due := rand.New(rand.NewPCG(3, 4)), start // due is when the next request is
	if s.rate == 0 {
		due = s.until // never
	}
	for ended := false; ; {
		now := time.Now()
		over := !now.Before(s.until)
		for !due.After(now) && due.Before(s.until) {
			s.waiting = append(s.waiting, due)
			due = due.Add(time.Duration(rng.ExpFloat64() / s.rate * float64(time.Second)))
		}
		// The first time that it is over, what fell due in the last moment is sent.
		for !ended && len(s.idle) > 0 && (s.rate == 0 && !over || len(s.waiting) > 0) {
			at := now
			if s.rate > 0 {
				at = s.waiting[0]
				s.waiting = s.waiting[1:]
			}
			if err := s.dispatch(at); err != nil {
				return err
			}
		}
		ended = over
		wake := due
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case over && len(s.idle) == s.connections:
			s.unsent = len(s.waiting)
			for _, at := range s.waiting {
				s.record(at, now)
			}
			return nil
		case now.After(s.until.Add(answerTimeout)):
			return fmt.Errorf("%d requests have no answer after %v", s.connections-len(s.idle), answerTimeout)
		case over:
			wake = now.Add(time.Second)
		case wake.After(s.until):
			wake = s.until
		}
		if err := s.wait(time.Until(wake)); err != nil {
			return err
		}
	}
}

// dispatch sends the next request, due at that time, on an idle connection.
func (s *sender) dispatch(due time.Time) error {
	c := s.idle[0]
	s.idle = s.idle[1:]
	request := s.request(s.sent, due)
	s.sent++
	c.due, c.n = due, 0
	if n, err := unix.Write(c.fd, request); err != nil || n < len(request) { // or its buffer has no room for it
		return fmt.Errorf("write a request: %d of %d bytes: %w", n, len(request), err)
	}
	return nil
}

// wait waits for answers, for at most that long, and reads them.
func (s *sender) wait(most time.Duration) error {
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(most)))}
	if err := unix.TimerfdSettime(s.timer, 0, &at, nil); err != nil {
		return fmt.Errorf("set a timer: %w", err)
	}
	var events [512]unix.EpollEvent
	n, err := unix.EpollWait(s.epoll, events[:], -1)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for answers: %w", err)
	}
	for _, event := range events[:max(n, 0)] {
		if fd := int(event.Fd); fd == s.timer {
			var expirations [8]byte
			unix.Read(fd, expirations[:]) // it has expired: no more is asked of it
		} else if err := s.read(s.conns[fd]); err != nil {
			return err
		}
	}
	return nil
}

// read reads what has arrived of an answer. An answer ends with an empty line: those
// that acknowledge a webhook have no body, and anything else is an error.
// acknowledge a webhook have no body, and all else is an error.
func (s *sender) read(c *conn) error {
	n, err := unix.Read(c.fd, c.answer[c.n:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	c.n += max(n, 0)
	answer := c.answer[:c.n]
	if err != nil || n == 0 || len(answer) > 9 && answer[9] != '2' { // HTTP/1.1 200 OK
		return fmt.Errorf("answered %q (%v)", answer, err)
	}
	if !bytes.HasSuffix(answer, []byte("\r\n\r\n")) {
		return nil
	}
	now := time.Now()
	if !now.Before(s.from) && now.Before(s.until) {
		s.acknowledged++
	}
	s.record(c.due, now)
	s.idle = append(s.idle, c)
	return nil
}
