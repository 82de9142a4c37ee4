package initproto

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A mask is a value that the job itself wants hidden: it goes from a stage's
// process to init and on to the driver, which answers when it hides it. Both
// travel in the one stream that the output takes, so the driver is asked after
// all output before it was written, and whatever is printed after the answer
// comes after it.

const (
	// MaxMask is the longest value, in bytes.
	MaxMask = 64 << 10
	// MaxMasks is how many values a stage may have hidden.
	MaxMasks = 1024
)

// maskTime is how long init waits for the driver's answer: as long as the
// driver may take to write the output that came before.
const maskTime = time.Minute

// Why a value is not taken.
var (
	errNoMask    = errors.New("this stage takes no values to hide")
	errMaskEmpty = errors.New("there is no value: an empty one cannot be hidden")
	errMaskLong  = fmt.Errorf("the value is longer than %d KiB: hide its parts", MaxMask>>10)
	errMaskMany  = fmt.Errorf("a stage may have %d values hidden, and it has", MaxMasks)
	errMaskOver  = errors.New("the stage has ended")
	errMaskLate  = errors.New("the driver does not answer: it is not known to hide the value")
)

func checkMask(size int) error {
	switch {
	case size == 0:
		return errMaskEmpty
	case size > MaxMask:
		return errMaskLong
	}
	return nil
}

// maskTaker is the driver's half, for one stage.
type maskTaker struct {
	c    *Client
	take func(string) error // nil: none are taken
	seen int
}

// answer has the value of one frame hidden and says how that went. It is an
// error only when init does what init does not do.
func (m *maskTaker) answer(p []byte) error {
	d := decoder{b: p}
	seq, value := d.num(), d.str()
	clear(p)
	if err := d.done(); err != nil {
		return err
	}
	if m.seen++; m.seen > MaxMasks || checkMask(len(value)) != nil {
		return fmt.Errorf("%w: a value to hide that is too long or one too many", ErrProtocol)
	}
	err := errNoMask
	if m.take != nil {
		err = m.take(value)
	}
	var e encoder
	e.num(seq)
	e.str(refusal(err, value))
	if err := m.c.write(frameMasked, e.b); err != nil {
		return lost(err)
	}
	return nil
}

// refusal is what the job reads of err, empty for nil. It never quotes what it
// is about (of a short word nobody could tell whether it does).
func refusal(err error, value string) string {
	if err == nil {
		return ""
	}
	text := clean(err.Error())
	if text == "" || len(value) >= 6 && strings.Contains(text, clean(value)) {
		return "the driver did not take the value"
	}
	return text
}

// masks is init's half, for one stage: values that wait for their answer.
type masks struct {
	c *session

	mu      sync.Mutex
	over    chan struct{} // closed when the stage is
	ended   bool
	seq     int64
	waiting map[int64]chan string
}

func newMasks(c *session) *masks {
	return &masks{c: c, over: make(chan struct{}), waiting: map[int64]chan string{}}
}

// send asks the driver to hide value, and returns when it does or will not. It
// is what a Handler gets, may be called by many at once, and keeps no copy.
func (m *masks) send(value []byte) error {
	if err := checkMask(len(value)); err != nil {
		return err
	}
	answer := make(chan string, 1)
	m.mu.Lock()
	switch {
	case m.ended:
		m.mu.Unlock()
		return errMaskOver
	case m.seq >= MaxMasks:
		m.mu.Unlock()
		return errMaskMany
	}
	m.seq++
	seq := m.seq
	m.waiting[seq] = answer
	m.mu.Unlock()
	defer m.forget(seq)

	e := encoder{b: make([]byte, 0, len(value)+16)}
	e.num(seq)
	e.num(int64(len(value)))
	e.b = append(e.b, value...)
	err := m.c.writeMask(m, e.b)
	clear(e.b)
	if err != nil {
		return errMaskOver
	}
	timer := time.NewTimer(maskTime)
	defer timer.Stop()
	select {
	case text := <-answer:
		if text != "" {
			return errors.New(text)
		}
		return nil
	case <-m.over:
		return errMaskOver
	case <-timer.C:
		return errMaskLate
	}
}

func (m *masks) forget(seq int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.waiting, seq)
}

// end is called before the stage's exit is told: after it none is sent.
func (m *masks) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.ended = true
		close(m.over)
	}
}

func (m *masks) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// answered hands an answer to who waits for it, if somebody still does.
func (m *masks) answered(p []byte) error {
	d := decoder{b: p}
	seq, text := d.num(), clean(d.str())
	if err := d.done(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if answer := m.waiting[seq]; answer != nil {
		answer <- text
		delete(m.waiting, seq)
	}
	return nil
}

// writeMask writes a value's frame unless its stage is over: the exit is told
// under the same lock, so nothing follows it. The buffer keeps no value.
func (c *session) writeMask(m *masks, payload []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if m.isOver() {
		return errStopped
	}
	c.wbuf = appendFrame(c.wbuf[:0], frameMask, payload)
	_, err := c.conn.Write(c.wbuf)
	clear(c.wbuf)
	return err
}
