package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"cleanroom/sandbox"
)

// picture is an image that is present: what a container is made from.
type picture struct {
	id     string // sha256:..., what is run whatever the tag says later
	digest string // name@sha256:... when a registry gave one
	config *dockerspec.DockerOCIImageConfig
}

// image makes sure that c's image is here, by the pull policies in order.
func (e *Engine) image(ctx context.Context, c sandbox.Container, spec sandbox.Spec, w io.Writer) (picture, error) {
	// Names only: an ID is one of an image that somebody's job may have
	// pulled with a login, and no registry can be asked about it.
	ref, err := reference.ParseNormalizedNamed(c.Image)
	if err != nil {
		return picture{}, userErrorf("image %q: %w", c.Image, err)
	}
	ref = reference.TagNameOnly(ref)
	var failures []error
	for _, policy := range c.PullPolicies {
		p, err := e.byPolicy(ctx, c, ref, policy, spec, w)
		if err == nil {
			sayf(w, "Using image %s (%s)", c.Image, p.name())
			return p, nil
		}
		if ctx.Err() != nil {
			return picture{}, err
		}
		failures = append(failures, err)
		if len(failures) < len(c.PullPolicies) {
			sayf(w, "Pull policy %s: %v; trying the next", policy, err)
		}
	}
	return picture{}, worst(failures)
}

// worst picks the error to report: one that is not the user's means that
// trying again may help.
func worst(failures []error) error {
	for _, err := range failures {
		if !errors.Is(err, sandbox.ErrUser) {
			return err
		}
	}
	return failures[len(failures)-1]
}

func (e *Engine) byPolicy(ctx context.Context, c sandbox.Container, ref reference.Named, policy string, spec sandbox.Spec, w io.Writer) (picture, error) {
	switch policy {
	case "always":
	case "if-not-present", "never":
		p, err := e.inspect(ctx, c, ref)
		if err == nil || !cerrdefs.IsNotFound(err) {
			return p, err
		}
		if policy == "never" {
			return picture{}, userErrorf("image %s is not on this runner and its pull policy is %q: ask the runner's admin to add it, or use another image", c.Image, policy)
		}
	default:
		return picture{}, userErrorf("pull policy %q: use always, if-not-present or never", policy)
	}
	if err := e.pull(ctx, c, ref, spec, w); err != nil {
		return picture{}, err
	}
	return e.inspect(ctx, c, ref)
}

func (e *Engine) inspect(ctx context.Context, c sandbox.Container, ref reference.Named) (picture, error) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	r, err := e.api.ImageInspect(ctx, ref.String())
	if err != nil {
		return picture{}, fmt.Errorf("image %s: %w", c.Image, err)
	}
	if c.Platform != "" && !samePlatform(c.Platform, r.Os, r.Architecture, r.Variant) {
		return picture{}, fmt.Errorf("image %s for %s: %w", c.Image, c.Platform, cerrdefs.ErrNotFound)
	}
	p := picture{id: r.ID, config: r.Config}
	if p.config == nil {
		p.config = &dockerspec.DockerOCIImageConfig{}
	}
	p.digest = digestOf(c.Image, r.RepoDigests)
	return p, nil
}

// digestOf picks the digest that goes with the name the job uses: an image
// may have come from several registries.
func digestOf(image string, digests []string) string {
	asked, err := reference.ParseNormalizedNamed(image)
	for _, d := range digests {
		if have, bad := reference.ParseNormalizedNamed(d); err == nil && bad == nil && have.Name() == asked.Name() {
			return d
		}
	}
	return ""
}

func (e *Engine) pull(ctx context.Context, c sandbox.Container, ref reference.Named, spec sandbox.Spec, w io.Writer) error {
	auth, source := "", ""
	if c.Auth != nil {
		var err error
		if auth, source, err = c.Auth(ctx, ref.String()); err != nil {
			return fmt.Errorf("registry login for %s: %w", c.Image, err)
		}
	}
	if source != "" {
		sayf(w, "Pulling image %s with the login from %s", c.Image, source)
	} else {
		sayf(w, "Pulling image %s", c.Image)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spec.PullTimeout, fmt.Errorf("took longer than pull_timeout, %s", spec.PullTimeout))
	defer cancel()
	stream, err := e.api.ImagePull(ctx, ref.String(), image.PullOptions{RegistryAuth: auth, Platform: c.Platform})
	if err != nil {
		return pullError(ctx, c.Image, err)
	}
	defer stream.Close()
	if err := showPull(stream, w); err != nil {
		return pullError(ctx, c.Image, err)
	}
	return nil
}

// pullError tells a name that no registry will ever know from a registry that
// does not answer today.
func pullError(ctx context.Context, name string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("pull of image %s: %w", name, cause)
	}
	if cerrdefs.IsInvalidArgument(err) {
		return userErrorf("pull of image %s: %w", name, err)
	}
	text := strings.ToLower(err.Error())
	for _, final := range []string{"not found", "manifest unknown", "access denied", "access to the resource is denied", "unauthorized", "no basic auth", "name invalid", "no matching manifest", "does not exist", "name unknown"} {
		if strings.Contains(text, final) {
			return userErrorf("pull of image %s: %w", name, err)
		}
	}
	return fmt.Errorf("pull of image %s: %w", name, err)
}

func (p picture) name() string {
	if p.digest != "" {
		return "digest " + p.digest
	}
	return "local image " + p.id
}

// samePlatform compares os/arch[/variant]; an image without a variant serves
// any.
func samePlatform(want, os, arch, variant string) bool {
	parts := strings.Split(strings.ToLower(want), "/")
	for i, p := range parts { // the kernel's names, which the engine takes too
		switch p {
		case "x86_64":
			parts[i] = "amd64"
		case "aarch64":
			parts[i] = "arm64"
		}
	}
	have := []string{os, arch, variant}
	if len(parts) == 1 { // "linux/arm64" may be written "arm64"
		return parts[0] == arch || parts[0] == os
	}
	for i, p := range parts {
		if i < len(have) && have[i] != "" && p != have[i] {
			return false
		}
	}
	return true
}
