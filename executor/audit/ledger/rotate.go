package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"cleanroom/config"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// rotating holds the public key to which a rotation is under way, from before
// the log knows of it until its caller was told.
func rotating(c config.Config) durable.Kept {
	return durable.Kept{Path: keyFile(c) + ".rotating", Limit: 4 << 10}
}

// Rotate has another key sign from now on: a new one, or the one that the
// signing command has now. told makes the record that says so. The old key is
// needed once more: the file's, or, when the log moves from a command to
// another one, that of old.
//
// say is told the new public key. A rotation that was cut short, wherever, is
// finished by the next call of Rotate; late: the log knew of its key already.
// Until then the log is signed all the same.
func (l *Ledger) Rotate(ctx context.Context, old config.Config, told func(before, after, where string) ([]byte, error), say func(after string, late bool) error) (err error) {
	held, err := key.Lock(ctx, keyFile(l.config))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Unlock()) }()
	if err := l.Finish(ctx); err != nil { // it may have been cut short when all was decided
		return fmt.Errorf("audit log: %w", err)
	}
	now, err := Open(l.config)
	if err != nil {
		return err
	}
	before := &Ledger{now.Log, old}
	_ = before.queue().TryDrain(direct{before}) // what waits is older, and needs the old key
	late, err := now.rotated()
	if err != nil {
		return err
	}
	if !late {
		if err := now.rotate(ctx, before, told); err != nil {
			return err
		}
	}
	return now.settle(say, late)
}

// rotated tells whether a rotation was cut short that the log knows of.
func (l *Ledger) rotated() (bool, error) {
	current := l.Keys().Current()
	to, err := rotating(l.config).Read()
	if err != nil || string(to) == current {
		return err == nil, err
	}
	next, err := key.Load(keyFile(l.config) + key.Next)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && next.VKey() == current, err
}

// rotate has the log know of another key.
func (l *Ledger) rotate(ctx context.Context, before *Ledger, told func(before, after, where string) ([]byte, error)) error {
	where := "file"
	if len(l.config.Audit.SignCommand) > 0 {
		where = "command"
	}
	current := l.Keys().Current()
	signer, err := l.nextSigner(ctx)
	if err != nil {
		return err
	}
	if signer.VKey() == current {
		return fmt.Errorf("%w: the new key is the old one: have audit.sign_command and audit.public_key name another", key.ErrChain)
	}
	text, err := told(current, signer.VKey(), where)
	if err != nil {
		return err
	}
	if err := errors.Join(durable.Write(rotating(l.config).Path, []byte(signer.VKey())), fault.At("rotate.noted")); err != nil {
		return err
	}
	if _, err := l.Log.Rotate(ctx, before.source(ctx), signer, text); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return fault.At("rotate.decided")
}

// nextSigner is the key that follows: a file's may have been left by a rotation
// of which the log knows nothing.
func (l *Ledger) nextSigner(ctx context.Context) (*key.Signer, error) {
	origin, file := l.Keys().Origin(), keyFile(l.config)+key.Next
	if len(l.config.Audit.SignCommand) == 0 {
		switch s, err := key.Load(file); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case s.Name() == origin && !slices.Contains(l.Keys().All(), s.VKey()):
			return s, nil
		default: // it cannot follow
			if err := os.Remove(file); err != nil {
				return nil, err
			}
		}
	}
	return newSigner(ctx, l.config, file, origin)
}

// settle does what is left when the log knows of the key. Whatever of it fails,
// who called is told the key.
func (l *Ledger) settle(say func(after string, late bool) error, late bool) error {
	followed := errors.Join(key.Follow(keyFile(l.config), l.Keys()), fault.At("rotate.settled"))
	said := errors.Join(say(l.Keys().Current(), late), fault.At("rotate.said"))
	if err := errors.Join(followed, said); err != nil {
		return err
	}
	if err := os.Remove(rotating(l.config).Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
