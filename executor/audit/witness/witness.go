// Package witness shows the log's checkpoints to witnesses on other machines
// and keeps what they sign, by C2SP's tlog-witness and tlog-cosignature
// (https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature).
//
// What it promises: a witness sees every later checkpoint with the proof that
// it has all of the one before; a cosignature is kept only once it was
// verified; nothing here is on the way of an append, so that a witness that is
// away delays nobody, and is caught up with later.
package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/executor/secret/quote"
)

// Errors.
var (
	// ErrAway is a witness that gave no answer; it is to be tried later.
	ErrAway = errors.New("the witness does not answer")
	// ErrRefused is a witness that will not sign. It may not know the log yet.
	ErrRefused = errors.New("the witness refused the checkpoint")
	// ErrForked is a witness that signed a checkpoint which is none of the
	// log's: the log was rewritten or rolled back, or another has its key.
	ErrForked = errors.New("the witness knows another log of this origin and key")
	// ErrAnswer is an answer that is no cosignature of the witness.
	ErrAnswer = errors.New("the witness's answer is not its signature")
	// ErrBusy is another process that is at it.
	ErrBusy = errors.New("another process shows the witness a checkpoint")
)

const (
	maxAnswer = 64 << 10 // bytes
	maxShown  = 200      // of an answer in an error, bytes
)

// Witness is one.
type Witness struct {
	URL    string // the submission prefix
	Public string // its public key in note's format
	HTTP   *http.Client
}

// Verifier verifies its cosignatures.
func (w Witness) Verifier() (note.Verifier, error) {
	v, err := formats.NewVerifierForCosignatureV1(w.Public)
	if err != nil {
		return nil, fmt.Errorf("%q is no public key of a witness, like witness.example.com+01234567+BAbC...: %w", w.Public, err)
	}
	return v, nil
}

// path is where the newest checkpoint with its cosignature is kept.
func (w Witness) path(l *log.Log, v note.Verifier) string {
	return filepath.Join(l.Store().Dir, "witness", fmt.Sprintf("%08x", v.KeyHash()))
}

// Kept gives the newest checkpoint that the witness signed, with its
// cosignature; nil: none yet.
func (w Witness) Kept(l *log.Log) ([]byte, error) {
	v, err := w.Verifier()
	if err != nil {
		return nil, err
	}
	msg, err := os.ReadFile(w.path(l, v))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return msg, err
}

// Show shows the witness the newest checkpoint, unless it has signed it, and
// keeps its cosignature. How long it waits is for ctx to say.
func (w Witness) Show(ctx context.Context, l *log.Log) error {
	v, err := w.Verifier()
	if err != nil {
		return err
	}
	path := w.path(l, v)
	if err := durable.Folder(filepath.Dir(path)); err != nil {
		return err
	}
	done, cancel := context.WithCancel(ctx)
	cancel() // who does not get the lock at once leaves it to its holder
	held, err := durable.Lock(done, path+".lock")
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	defer held.Unlock()
	cp, err := l.Checkpoint()
	if err != nil {
		return err
	}
	if cp.Size == 0 {
		return nil // nothing to witness, and no proof to give
	}
	old := int64(0)
	if msg, err := w.Kept(l); err == nil && msg != nil {
		if kept, err := l.Keys().Open(msg); err == nil {
			old = kept.Size
		}
	}
	switch {
	case old == cp.Size:
		return nil
	case old > cp.Size:
		return fmt.Errorf("%w: it signed a checkpoint of %d records, and the log has %d", ErrForked, old, cp.Size)
	}
	msg, err := w.post(ctx, l, cp, v, old)
	if err != nil {
		return err
	}
	return durable.Write(path, msg)
}

// post sends the checkpoint. A witness that has seen more or less than we
// remember says so, once.
func (w Witness) post(ctx context.Context, l *log.Log, cp checkpoint.Checkpoint, v note.Verifier, old int64) ([]byte, error) {
	for try := 0; ; try++ {
		body, err := request(l, cp, old)
		if err != nil {
			return nil, err
		}
		answer, size, err := w.send(ctx, body, l.Keys().Current())
		if err != nil {
			return nil, err
		}
		if answer != nil {
			return cosigned(cp, v, answer)
		}
		switch {
		case size > cp.Size:
			return nil, fmt.Errorf("%w: it signed a checkpoint of %d records, and the log has %d", ErrForked, size, cp.Size)
		case size == old:
			return nil, fmt.Errorf("%w: its checkpoint of %d records has another root", ErrForked, size)
		case try > 0:
			return nil, fmt.Errorf("%w: it wants the log's growth from %d records, and then from another size", ErrRefused, size)
		}
		old = size
	}
}

// request is the body of add-checkpoint.
func request(l *log.Log, cp checkpoint.Checkpoint, old int64) ([]byte, error) {
	body := fmt.Appendf(nil, "old %d\n", old)
	if old > 0 {
		p, err := l.ProveGrowth(cp, old)
		if err != nil {
			return nil, err
		}
		for _, h := range p {
			body = fmt.Appendf(body, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
		}
	}
	return append(append(body, '\n'), cp.Note...), nil
}

// send posts a body. Without an answer the witness is at another size. key is
// the one that signed, of which the witness's operator has to know.
func (w Witness) send(ctx context.Context, body []byte, key string) (answer []byte, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(w.URL, "/")+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	client := w.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrAway, err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	said := resp.Status
	if len(answer) > 0 {
		said += ": " + quote.Text(string(answer), maxShown)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return answer, 0, nil
	case resp.StatusCode == http.StatusConflict && kind == "text/x.tlog.size":
		size, err := strconv.ParseInt(strings.TrimSuffix(string(answer), "\n"), 10, 64)
		if err != nil || size < 0 {
			return nil, 0, fmt.Errorf("%w: %q is no size", ErrAnswer, quote.Text(string(answer), maxShown))
		}
		return nil, size, nil
	case resp.StatusCode == http.StatusConflict, resp.StatusCode == http.StatusUnprocessableEntity:
		return nil, 0, fmt.Errorf("%w: %s", ErrForked, said)
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusForbidden:
		return nil, 0, fmt.Errorf("%w: tell its operator the log's key %s: %s", ErrRefused, key, said)
	case resp.StatusCode == http.StatusInternalServerError: // omniwitness's answer to a key that it was not told of
		return nil, 0, fmt.Errorf("%w: if that goes on, tell its operator the log's key %s: %s", ErrAway, key, said)
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests:
		return nil, 0, fmt.Errorf("%w: %s", ErrAway, said)
	}
	return nil, 0, fmt.Errorf("%w: %s", ErrRefused, said)
}

// cosigned adds to a checkpoint the cosignatures of an answer that are the
// witness's. What else the answer holds is left out.
func cosigned(cp checkpoint.Checkpoint, v note.Verifier, answer []byte) ([]byte, error) {
	_, n, err := checkpoint.Open(append(bytes.Clone(cp.Note), answer...), note.VerifierList(v))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	_, ours, err := checkpoint.Open(cp.Note, nil)
	if !errors.Is(err, checkpoint.ErrNotOurs) {
		return nil, err
	}
	return note.Sign(&note.Note{Text: n.Text, Sigs: append(ours.UnverifiedSigs, n.Sigs...)})
}
