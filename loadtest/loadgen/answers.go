package main

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"
)

// readFrame takes one frame, and sends what it gave rise to once no other is there already.
func (c *connection) readFrame() error {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	if err := c.take(frame); err != nil {
		return err
	}
	if c.reader.Buffered() > 0 {
		return nil
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.writer.Flush()
}

func (c *connection) take(frame http2.Frame) error {
	switch frame := frame.(type) {
	case *http2.DataFrame:
		return c.takeData(frame)
	case *http2.HeadersFrame:
		return c.takeHeaders(frame)
	case *http2.RSTStreamFrame:
		c.end(frame.StreamID, fmt.Sprintf("reset: %v", frame.ErrCode))
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server went away: %v", frame.ErrCode)
	case *http2.WindowUpdateFrame:
		if frame.StreamID == 0 {
			c.widen(int64(frame.Increment))
		}
	case *http2.SettingsFrame:
		return c.takeSettings(frame)
	case *http2.PingFrame:
		if !frame.IsAck() {
			c.lock.Lock()
			defer c.lock.Unlock()
			return c.framer.WritePing(true, frame.Data)
		}
	}
	return nil
}

func (c *connection) takeData(frame *http2.DataFrame) error {
	c.taken += int(frame.Length)
	if frame.StreamEnded() {
		c.end(frame.StreamID, "ended without a status")
	}
	if c.taken < answerRefreshBytes {
		return nil
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	err := c.framer.WriteWindowUpdate(0, uint32(c.taken))
	c.taken = 0
	return err
}

// takeHeaders decodes every block, because the decoder's table follows from all of them.
func (c *connection) takeHeaders(frame *http2.HeadersFrame) error {
	if !frame.HeadersEnded() {
		return fmt.Errorf("an answer's headers came in several frames, which is not expected here")
	}
	c.answer.httpStatus, c.answer.status = "", ""
	if _, err := c.answer.decoder.Write(frame.HeaderBlockFragment()); err != nil {
		return err
	}
	if err := c.answer.decoder.Close(); err != nil {
		return err
	}
	if !frame.StreamEnded() {
		return nil
	}
	switch {
	case c.answer.status == "0":
		c.end(frame.StreamID, "")
	case c.answer.status != "":
		c.end(frame.StreamID, "gRPC status "+c.answer.status)
	default:
		c.end(frame.StreamID, "HTTP status "+c.answer.httpStatus)
	}
	return nil
}

// end counts a call, of which failure is empty where it was answered well, and begins what comes in its place.
func (c *connection) end(id uint32, failure string) {
	ended := now()
	c.lock.Lock()
	defer c.lock.Unlock()
	due, ok := c.inWork[id]
	if !ok {
		return
	}
	delete(c.inWork, id)
	c.count(due, ended, failure)
	c.beginWaiting()
	if !c.isOpen && ended < c.measured.until {
		c.begin(ended)
	}
}

func (c *connection) count(due, ended time.Duration, failure string) {
	moment := ended
	if c.isOpen {
		moment = due
	}
	if !c.measured.has(moment) {
		return
	}
	if failure != "" {
		c.tally.failure(failure)
		return
	}
	c.tally.answered(ended - due)
}

func (c *connection) widen(bytes int64) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.windowBytes += bytes
	c.beginWaiting()
}

func (c *connection) takeSettings(frame *http2.SettingsFrame) error {
	if frame.IsAck() {
		return nil
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	if frames, ok := frame.Value(http2.SettingMaxFrameSize); ok {
		c.frameBytes = int(frames)
	}
	if streams, ok := frame.Value(http2.SettingMaxConcurrentStreams); ok {
		c.streamsMax = int(streams)
	}
	c.beginWaiting()
	return c.framer.WriteSettingsAck()
}
