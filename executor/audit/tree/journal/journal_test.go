package journal

import (
	"bytes"
	"testing"
)

// A frame that is cut off at any byte, or has any other byte, is none.
func TestTornFrame(t *testing.T) {
	data := []byte("\x00\x05first\x00\x06second")
	text := (&Frame{First: 7, Bundle: 9, Count: 2, Records: data, Note: []byte("note")}).Encode()
	length := len(bytes.TrimRight(text, "\x00"))
	if decodeFrame(text) == nil || decodeFrame(text[:length]) == nil {
		t.Fatal("the whole frame is none")
	}
	for n := range length {
		if decodeFrame(text[:n]) != nil {
			t.Fatalf("a frame of %d bytes of %d", n, length)
		}
		bad := bytes.Clone(text)
		if bad[n] ^= 0x10; decodeFrame(bad) != nil {
			t.Fatalf("a frame with another byte %d", n)
		}
	}
}

func FuzzJournal(f *testing.F) {
	data := []byte("\x00\x05first\x00\x06second")
	f.Add((&Frame{First: 7, Bundle: 9, Count: 2, Records: data, Note: []byte("note"), Change: []byte("change")}).Encode())
	f.Add(Header{"boot", 1, Block, 3 * Block}.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if fr := decodeFrame(data); fr != nil && !bytes.HasPrefix(data, bytes.TrimRight(fr.Encode(), "\x00")) {
			t.Fatalf("%+v is not what was written", fr)
		}
		if h := decodeHeader(data); h != (Header{}) && !bytes.HasPrefix(data, bytes.TrimRight(h.Encode(), "\x00")) {
			t.Fatalf("%+v is not what was written", h)
		}
	})
}
