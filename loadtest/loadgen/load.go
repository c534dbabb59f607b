package main

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// dialMax bounds how long a connection may take.
const dialMax = 5 * time.Second

// requests are sent in turn; each connection begins at another one.
type requests struct {
	all  [][]byte
	next int
}

func (r *requests) take() []byte {
	taken := r.all[r.next]
	r.next = (r.next + 1) % len(r.all)
	return taken
}

// load is everything that is needed to run.
type load struct {
	asked   options
	encoded [][]byte
}

func prepare(asked options) (*load, error) {
	read, err := readRequests(asked.data)
	if err != nil {
		return nil, err
	}
	if asked.call != "" {
		encoded, err := encode(asked, read)
		return &load{asked, encoded}, err
	}
	if asked.rate > 0 || asked.streams > 1 {
		return nil, errors.New("over HTTP/1.1 there is the closed loop alone, of one request on a connection")
	}
	encoded := make([][]byte, len(read))
	for i, body := range read {
		encoded[i] = post(asked, body)
	}
	return &load{asked, encoded}, nil
}

// requestsOf are those of one connection.
func (l *load) requestsOf(connection int) *requests {
	return &requests{l.encoded, connection * len(l.encoded) / l.asked.connections}
}

func (l *load) run() (*found, error) {
	if l.asked.path != "" {
		return l.runHTTP()
	}
	connections := make([]*connection, l.asked.connections)
	for i := range connections {
		opened, err := l.dial()
		if err != nil {
			return nil, err
		}
		defer opened.Close()
		if connections[i], err = newConnection(opened, l.asked, l.requestsOf(i)); err != nil {
			return nil, err
		}
	}
	from := now() + l.asked.warm
	measured := window{from, from + l.asked.measured}
	late := newHistogram()
	var running sync.WaitGroup
	var tallies []*tally
	for _, each := range connections {
		each.measured = measured
		tallies = append(tallies, each.tally)
		running.Go(each.run)
	}
	if l.asked.rate > 0 {
		l.pace(connections, measured, late)
	}
	running.Wait()
	return &found{tallies, late}, nil
}

func (l *load) dial() (net.Conn, error) {
	return net.DialTimeout("tcp", l.asked.address, dialMax)
}

// pace sends each request when it is due, from a thread of its own: Go's timers are a millisecond coarse.
func (l *load) pace(connections []*connection, measured window, late *hdrhistogram.Histogram) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Without it the kernel adds up to 50 µs to each sleep; where it refuses, sent_late_p99_ms tells.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	begun := now()
	for i := 0; ; i++ {
		due := begun + time.Duration(float64(i)/l.asked.rate*float64(time.Second))
		if due >= measured.until {
			break
		}
		sleepUntil(due)
		if measured.has(due) {
			record(late, now()-due)
		}
		connections[i%len(connections)].send(due)
	}
	for _, each := range connections {
		each.noMore()
	}
}

func sleepUntil(due time.Duration) {
	for rest := due - now(); rest > 0; rest = due - now() {
		span := unix.NsecToTimespec(rest.Nanoseconds())
		// Where a signal breaks it off, the loop goes on.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &span, nil)
	}
}
