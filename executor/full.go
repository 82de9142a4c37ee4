package executor

import (
	"errors"
	"io/fs"
	"reflect"
	"time"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret"
	"cleanroom/sandbox/fault"
)

// ErrFull is a call that only a program with Full can serve. The one that says
// so has changed nothing.
var ErrFull = errors.New("this call needs cleanroom-admin")

// Full is what only some calls need, and what takes long to load: a program
// without (a nil one) serves the others. Ready tells.
type Full struct {
	// Rules compiles the policy of a configuration: policy.FromConfig.
	Rules func(config.Config) (verdict.Policy, error)
	// Providers makes sources of secrets: provider.Opener.
	Providers func(dataDir string) secret.Opener
	// HostKey seals to this host: hostkey.Open.
	HostKey func(dataDir string) (secret.Sealer, error)
}

func (f *Full) rules(c config.Config) (verdict.Policy, error) {
	switch {
	case f != nil:
		return f.Rules(c)
	case hasRules(c):
		return nil, ErrFull
	}
	return verdict.None{}, nil
}

func hasRules(c config.Config) bool { return len(c.Policy.Rules) > 0 || c.Policy.File != "" }

func (f *Full) providers(dataDir string) secret.Opener {
	if f == nil {
		return func(config.Provider) (secret.Provider, error) { return nil, ErrFull }
	}
	return f.Providers(dataDir)
}

func (f *Full) hostKey(dataDir string) (secret.Sealer, error) {
	if f == nil {
		return nil, ErrFull
	}
	return f.HostKey(dataDir)
}

// Ready is ErrFull when this program cannot serve a call, which is asked before
// anything is done; args are the stage's. What is wrong with a call is for the
// stage to say.
func (x *Executor) Ready(stage string, args []string) error {
	if x.Full != nil {
		return nil
	}
	full := false
	switch stage {
	case prepareStage:
		full = x.prepareIsFull()
	case "run":
		full = x.runIsFull(args[1])
	case "cleanup": // the journal tells the rest, when it is ours: Finish
		full = x.Audit != nil // its end is recorded
	}
	if full {
		return ErrFull
	}
	return nil
}

// prepareIsFull looks for what would be asked of rules, providers and the log.
func (x *Executor) prepareIsFull() bool {
	if hasRules(x.Config) || len(x.words(SecretsVariable))+len(x.words(IdentityVariable)) > 0 {
		return true
	}
	if x.Audit != nil {
		now, err := seeing(x.Config, verdict.None{})
		before, wrong := readSeen(seenPath(x.Config))
		if err != nil || wrong != nil || !reflect.DeepEqual(before, now) { // there is something to record
			return true
		}
	}
	rooms, err := secret.Rooms(x.Config.DataDir)
	if err != nil {
		return true
	}
	for _, room := range rooms {
		if room == x.Call.Room || x.overdue(room) { // an earlier try of ours; one that reapBeside would end
			return true
		}
	}
	return false
}

// overdue says whether reapBeside has something to do about a room, or to say.
func (x *Executor) overdue(room string) bool {
	if !validRoom(room) {
		return true
	}
	if time.Since(lastEnding(x.Config.DataDir, room)) <= again {
		return false
	}
	journal, err := secret.Find(x.Config.DataDir, room, 0)
	if err != nil {
		return !errors.Is(err, secret.ErrLocked) && !errors.Is(err, fs.ErrNotExist)
	}
	over := journal.Over(fault.Now()) != "" || journal.Mute != nil
	return journal.Keep() != nil || over
}

// runIsFull looks for leases to keep alive, and for artifacts to sign for. What
// it unseals RunStage uses.
func (x *Executor) runIsFull(stage string) bool {
	if contract.RunsNothing(stage) {
		return false
	}
	name, key, err := x.room()
	if err != nil {
		return false
	}
	sealed, err := secret.Unseal(x.Config.StateDir, name, key)
	if err != nil {
		return false
	}
	x.sealed = sealed
	if len(sealed.Renewals) > 0 {
		return true
	}
	if x.Audit == nil || !x.Config.Audit.Provenance || !contract.Uploads(stage) {
		return false
	}
	stored, err := x.Call.Stored(stage)
	return err == nil && len(stored) > 0
}
