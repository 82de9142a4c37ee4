// Package docker makes rooms on a Docker Engine (20.10 or later). All it
// needs to find a room again stands on the engine as names and labels; the
// state folder only saves it from asking.
package docker

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/connhelper"
	"github.com/docker/docker/client"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/wire"
)

// Transports to a container's init.
const (
	TransportAuto   = "auto"   // socket where it can work, else exec
	TransportSocket = "socket" // a unix socket on a volume of the room
	TransportExec   = "exec"   // the stdio of an exec'd `init dial`
)

// Options of an Engine.
type Options struct {
	Host      string        // empty: DOCKER_HOST, else the local socket
	Runtime   string        // OCI runtime, empty: the engine's default
	Transport string        // one of the transports
	InitPath  string        // the cleanroom-init binary on this machine
	StateDir  string        // a folder (tmpfs) for what saves questions
	Timeout   time.Duration // of one request to the engine, pulls excepted

	// Pulled keeps which images were pulled with a login; without one no
	// login is used.
	Pulled sandbox.Kept
	// Wires is where rooms without services get their addresses from, when we
	// connect them and not the engine. No subnet: the engine does.
	Wires wire.Net
	// Unfit is told why a room that Wires were meant for has networks of the
	// engine's. nil: nobody asks.
	Unfit func(error)

	// RemovePulled has a room's wipe remove those that no other room uses.
	RemovePulled bool
}

// Engine is a sandbox.Engine on a Docker Engine.
type Engine struct {
	api     *client.Client
	options Options
	local   bool
	tool    string // hash of init, for engines that cannot mount it
	met     sync.Once
	asking  sync.Mutex
	learned *learned // learn.go; set before a room is laid out
	owners  sync.Map // by an image's ID and a name in it: uid:gid
}

var _ sandbox.Engine = (*Engine)(nil)

// New connects lazily: an engine that is away is told by the first request.
func New(o Options) (*Engine, error) {
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Minute
	}
	api, err := Connect(o.Host)
	if err != nil {
		return nil, err
	}
	return &Engine{api: api, options: o, local: strings.HasPrefix(api.DaemonHost(), "unix://")}, nil
}

// Connect makes a client for an engine: unix://, tcp:// or ssh://, empty for
// DOCKER_HOST or the local socket. It does not speak to it yet.
func Connect(host string) (*client.Client, error) {
	options := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	helper, err := connhelper.GetConnectionHelper(host)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", host, err)
	}
	switch {
	case helper != nil: // ssh runs `docker system dial-stdio` over there
		options = append(options, client.WithHost(helper.Host), client.WithDialContext(helper.Dialer))
	case host != "":
		options = append(options, client.WithHost(host))
	}
	api, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("docker engine: %w", err)
	}
	return api, nil
}

// Close drops the connections.
func (e *Engine) Close() error { return e.api.Close() }

// meet settles the API's version before requests go out side by side: the
// client's own way, at the first request, is not made for several at once.
// Others wait for the first to ask: its ctx is a short one.
func (e *Engine) meet(ctx context.Context) { e.met.Do(func() { e.api.NegotiateAPIVersion(ctx) }) }

// short bounds one request, so that an engine that hangs is an error and not
// a job that waits for ever.
func (e *Engine) short(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.options.Timeout)
}

// whole bounds one request that changes something, and lets it end even when
// ctx does not wait: a request cut off goes on in the engine, and what it
// makes would then appear after the wipe has looked.
func (e *Engine) whole(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), e.options.Timeout)
}

// sayf writes a line for the job's author.
func sayf(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, format+"\n", args...)
}

// userError is one that trying again will not mend. Its words are for the
// job's author and stand alone.
type userError struct{ error }

func (userError) Is(target error) bool { return target == sandbox.ErrUser }

func (e userError) Unwrap() error { return e.error }

func userErrorf(format string, args ...any) error {
	return userError{fmt.Errorf(format, args...)}
}
