package main

import (
	"bufio"
	"bytes"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	bufferBytes = 64 << 10
	// How much the server may send before it is told that more may come: enough never to be waited for.
	answerWindowBytes  = 1 << 30
	answerRefreshBytes = 1 << 26
	streamWindowBytes  = 1 << 24
	// What the specification says until the server says otherwise.
	windowBytesAtFirst = 65_535
	frameBytesAtFirst  = 16_384
)

// connection speaks gRPC over HTTP/2 on one connection, with frames written from ready bytes.
//
// The reader owns the tally, the writer is shared with the pacer of an open loop under the lock.
type connection struct {
	socket   net.Conn
	isOpen   bool
	streams  int
	drain    time.Duration
	measured window
	tally    *tally
	requests *requests
	reader   *bufio.Reader
	framer   *http2.Framer
	answer   answer
	taken    int

	lock   sync.Mutex
	writer *bufio.Writer
	// The headers of the first request, which fill the server's table, and those of all others, which refer to it.
	headers [2][]byte
	nextID  uint32
	inWork  map[uint32]time.Duration
	// What cannot be sent yet, because the server's windows or its streams are taken: when each was due.
	waiting     []time.Duration
	windowBytes int64
	frameBytes  int
	streamsMax  int
	isEnding    bool
}

// answer is what is read of one block of headers.
type answer struct {
	decoder            *hpack.Decoder
	httpStatus, status string
}

func newConnection(socket net.Conn, asked options, requests *requests) (*connection, error) {
	c := &connection{
		socket: socket, isOpen: asked.rate > 0, streams: asked.streams, drain: asked.drain, tally: newTally(), requests: requests,
		reader: bufio.NewReaderSize(socket, bufferBytes), writer: bufio.NewWriterSize(socket, bufferBytes),
		headers: headersOf(asked), nextID: 1, inWork: map[uint32]time.Duration{},
		windowBytes: windowBytesAtFirst, frameBytes: frameBytesAtFirst, streamsMax: 100,
	}
	c.framer = http2.NewFramer(c.writer, c.reader)
	c.framer.SetReuseFrames()
	c.answer.decoder = hpack.NewDecoder(4096, c.answer.field)
	if _, err := c.writer.WriteString(http2.ClientPreface); err != nil {
		return nil, err
	}
	settings := http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindowBytes}
	if err := c.framer.WriteSettings(settings); err != nil {
		return nil, err
	}
	if err := c.framer.WriteWindowUpdate(0, answerWindowBytes); err != nil {
		return nil, err
	}
	return c, c.writer.Flush()
}

// headersOf gives the block of the first request of a connection, and that of every other.
func headersOf(asked options) [2][]byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	var blocks [2][]byte
	for i := range blocks {
		block.Reset()
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", "/" + asked.call}, {":authority", asked.address},
			{"te", "trailers"}, {"content-type", "application/grpc"}, {"user-agent", "loadgen"},
		} {
			// A bytes.Buffer takes everything.
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		blocks[i] = bytes.Clone(block.Bytes())
	}
	return blocks
}

func (a *answer) field(field hpack.HeaderField) {
	switch field.Name {
	case ":status":
		a.httpStatus = field.Value
	case "grpc-status":
		a.status = field.Value
	}
}

// run fills the streams of a closed loop and reads until all is answered or the time is over.
func (c *connection) run() {
	// The socket's own deadline bounds all of it.
	_ = c.socket.SetDeadline(base.Add(c.measured.until + c.drain))
	c.lock.Lock()
	if !c.isOpen {
		for range c.streams {
			c.begin(now())
		}
	}
	err := c.writer.Flush()
	c.lock.Unlock()
	for err == nil && !c.isDone() {
		err = c.readFrame()
	}
	c.abandon(err)
}

func (c *connection) isDone() bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	if !c.isOpen && now() >= c.measured.until {
		c.isEnding = true
	}
	return c.isEnding && len(c.inWork)+len(c.waiting) == 0
}

// abandon counts what was never answered.
func (c *connection) abandon(err error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for range len(c.inWork) + len(c.waiting) {
		c.tally.failure(unanswered(err))
	}
	c.inWork, c.waiting, c.isEnding = nil, nil, true
}

// send is the pacer's: a request that was due at a moment.
func (c *connection) send(due time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.isEnding {
		return
	}
	c.begin(due)
	// Where that fails, so does the reader, which counts what is not answered.
	_ = c.writer.Flush()
}

// noMore is the pacer's: nothing else will be due.
func (c *connection) noMore() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.isEnding = true
	if len(c.inWork)+len(c.waiting) == 0 {
		// The reader has nothing left to wait for.
		_ = c.socket.SetReadDeadline(time.Now())
	}
}

// begin writes one request, or keeps it waiting.
func (c *connection) begin(due time.Duration) {
	if len(c.waiting) > 0 || !c.mayBegin() {
		c.waiting = append(c.waiting, due)
		return
	}
	c.write(due)
}

// mayBegin tells whether the server takes another request now.
func (c *connection) mayBegin() bool {
	return len(c.inWork) < c.streamsMax && c.windowBytes >= int64(len(c.requests.all[c.requests.next]))
}

func (c *connection) beginWaiting() {
	for len(c.waiting) > 0 && c.mayBegin() {
		due := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.write(due)
	}
}

func (c *connection) write(due time.Duration) {
	body := c.requests.take()
	block := c.headers[min(c.nextID/2, 1)]
	id := c.nextID
	c.nextID += 2
	c.inWork[id] = due
	c.windowBytes -= int64(len(body))
	// A writer that fails goes on failing: the next flush tells.
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true})
	for len(body) > c.frameBytes {
		_ = c.framer.WriteData(id, false, body[:c.frameBytes])
		body = body[c.frameBytes:]
	}
	_ = c.framer.WriteData(id, true, body)
}
