package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// post gives the bytes of a request.
func post(asked options, body []byte) []byte {
	head := fmt.Sprintf(
		"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		asked.path, asked.address, len(body),
	)
	return append([]byte(head), body...)
}

// runHTTP keeps one request in flight on each connection.
func (l *load) runHTTP() (*found, error) {
	sockets := make([]net.Conn, l.asked.connections)
	for i := range sockets {
		socket, err := l.dial()
		if err != nil {
			return nil, err
		}
		defer socket.Close()
		sockets[i] = socket
	}
	from := now() + l.asked.warm
	measured := window{from, from + l.asked.measured}
	tallies := make([]*tally, len(sockets))
	var running sync.WaitGroup
	for i, socket := range sockets {
		tallies[i] = newTally()
		running.Go(func() { callHTTP(socket, l.requestsOf(i), measured, l.asked.drain, tallies[i]) })
	}
	running.Wait()
	return &found{tallies: tallies}, nil
}

func callHTTP(socket net.Conn, requests *requests, measured window, drain time.Duration, seen *tally) {
	// It bounds all of it.
	_ = socket.SetDeadline(base.Add(measured.until + drain))
	reader := bufio.NewReaderSize(socket, bufferBytes)
	for now() < measured.until {
		begun := now()
		status, err := exchange(socket, reader, requests.take())
		if err != nil {
			seen.failure(unanswered(err))
			return
		}
		ended := now()
		switch {
		case !measured.has(ended):
		case status != http.StatusOK:
			seen.failure(fmt.Sprintf("HTTP status %d", status))
		default:
			seen.answered(ended - begun)
		}
	}
}

func exchange(socket net.Conn, reader *bufio.Reader, request []byte) (int, error) {
	if _, err := socket.Write(request); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}
