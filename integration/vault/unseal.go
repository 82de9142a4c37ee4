package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/vault/helper/namespace"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/vault"
)

// unseal opens the core with the key in dir, which the first start makes, and
// sees to it that the first start leaves token as the only one.
func unseal(core *vault.Core, dir, token string) error {
	ctx := namespace.ContextWithNamespace(context.Background(), namespace.RootNamespace)
	file := filepath.Join(dir, "unseal-key")
	text, err := os.ReadFile(file)
	if err == nil {
		key, err := hex.DecodeString(string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return openWith(core, key)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(hex.EncodeToString(made.SecretShares[0])), 0o600); err != nil {
		return err
	}
	if err := openWith(core, made.SecretShares[0]); err != nil {
		return err
	}
	for _, request := range []*logical.Request{
		{ID: "root", Path: "auth/token/create", Data: map[string]any{
			"id": token, "policies": []string{"root"}, "no_parent": true, "no_default_policy": true,
		}},
		{ID: "first", Path: "auth/token/revoke-self"},
	} {
		request.Operation, request.ClientToken = logical.UpdateOperation, made.RootToken
		answer, err := core.HandleRequest(ctx, request)
		if err == nil && answer.IsError() {
			err = answer.Error()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", request.Path, err)
		}
	}
	return nil
}

func openWith(core *vault.Core, key []byte) error {
	if unsealed, err := core.Unseal(key); err != nil || !unsealed {
		return errors.Join(errors.New("the unseal key does not open the storage"), err)
	}
	return nil
}
