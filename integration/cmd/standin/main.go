// Standin is the stand-in GitLab server as a program, for a container of its own. It needs git on PATH, and no more.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"cleanroom/integration/gitlab"
)

func main() {
	var o gitlab.Options
	listen := flag.String("listen", "127.0.0.1:8099", "address to listen on")
	flag.StringVar(&o.ExternalURL, "external-url", "", "address that runners and jobs reach this server by (the address listened on)")
	flag.StringVar(&o.DataDir, "data", "", "folder for repositories and artifacts")
	flag.Uint64Var(&o.Seed, "seed", 0, "seed of all awkwardness (made up when 0)")
	flag.BoolVar(&o.Awkward, "awkward", true, "be difficult now and then, as GitLab is")
	flag.StringVar(&o.RunnerToken, "runner-token", "", "token of the runner (made up when empty)")
	flag.StringVar(&o.ControlToken, "control-token", os.Getenv("STANDIN_TOKEN"), "token for /control (STANDIN_TOKEN; made up when empty)")
	flag.StringVar(&o.TLSCert, "tls-cert", "", "certificate file, to serve https")
	flag.StringVar(&o.TLSKey, "tls-key", "", "key file of the certificate")
	flag.Parse()
	if err := run(*listen, o); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(listen string, o gitlab.Options) error {
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	s, err := gitlab.Listen(listen, o)
	if err != nil {
		return err
	}
	// A test that failed by bad luck is repeated with the seed of this line.
	fmt.Printf("standin: url=%s seed=%d awkward=%t runner-token=%s control-token=%s\n",
		s.URL(), o.Seed, o.Awkward, s.RunnerToken(), s.ControlToken())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return s.Close()
}
