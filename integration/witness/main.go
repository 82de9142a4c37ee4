// Command witness is a real witness of transparency logs for tests: what
// decides, signs and answers is that of transparency-dev's omniwitness
// (https://c2sp.org/tlog-witness). It is that program without the feeders, the
// bastion and the database, which take most of the time to compile.
//
// It keeps its keys and what it saw in one folder, so that it can be stopped
// and started again; do not use it for anything but tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/witness/witness"
	"golang.org/x/mod/sumdb/note"
)

var (
	listen = flag.String("listen", "127.0.0.1:0", "host:port to listen on")
	dir    = flag.String("dir", "", "folder for its keys and what it saw")
)

func main() {
	logs := map[string]note.Verifier{}
	flag.Func("log", "public key (NAME+ID+KEY) of a log that it knows; may be repeated", func(vkey string) error {
		v, err := note.NewVerifier(vkey)
		if err == nil {
			logs[v.Name()] = v
		}
		return err
	})
	flag.Parse()
	if err := run(logs); err != nil {
		fmt.Fprintln(os.Stderr, "witness:", err)
		os.Exit(1)
	}
}

func run(logs map[string]note.Verifier) error {
	if *dir == "" || flag.NArg() > 0 {
		return errors.New("usage: witness --dir FOLDER [--listen HOST:PORT] [--log KEY]...")
	}
	ed25519, ed25519Public, err := signer("ed25519", func(name string) (skey, vkey string, err error) {
		if skey, vkey, err = note.GenerateKey(nil, name); err == nil {
			vkey, err = formats.VKeyToCosignatureV1(vkey)
		}
		return skey, vkey, err
	})
	if err != nil {
		return err
	}
	mldsa, mldsaPublic, err := signer("mldsa", formats.GenerateMLDSAKey)
	if err != nil {
		return err
	}
	w, err := witness.New(context.Background(), witness.Opts{
		Persistence: &folder{dir: *dir},
		Signers:     []note.Signer{mldsa, ed25519},
		VerifierForLog: func(_ context.Context, origin string) (note.Verifier, bool, error) {
			v, ok := logs[origin]
			return v, ok, nil
		},
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", witness.NewHTTPHandler(w).AddCheckpoint)
	// Who started it reads this line to learn the port and the keys.
	fmt.Printf("listening url=http://%s ed25519=%s mldsa=%s\n", listener.Addr(), ed25519Public, mldsaPublic)
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}
