package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/verdict-pdp/verdict/bundles/signature"
	"github.com/verdict-pdp/verdict/internal/durable"
	"github.com/verdict-pdp/verdict/internal/vault"
	"github.com/verdict-pdp/verdict/keys"
	"github.com/verdict-pdp/verdict/keys/jose"
	"github.com/verdict-pdp/verdict/keys/transit"
)

// transitKey is what the name of a key in Vault begins with on the command line.
const transitKey = "transit:"

// ringKeyFlags name a key that signs where it is.
type ringKeyFlags struct {
	key, public string
	config      configFlags
}

func (f *ringKeyFlags) add(cmd *cobra.Command) {
	addDataDirFlags(cmd, &f.config)
	cmd.Flags().StringVar(&f.key, "key", "", "`transit:NAME`, a key in Vault by its whole name, in place of --signing-key")
	cmd.Flags().StringVar(&f.public, "public-key", "", "`FILE` to write the public key to, PEM (with --key)")
}

// signer gives what signs: the file of sign, or the key in Vault.
func (f *ringKeyFlags) signer(ctx context.Context, p *process, sign *signFlags) (*signature.Signer, error) {
	if f.key == "" {
		if f.public != "" {
			return nil, withExit(exitUsage, errors.New("--public-key belongs to --key"))
		}
		return sign.signer(p)
	}
	name, ok := strings.CutPrefix(f.key, transitKey)
	if !ok || !regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`).MatchString(name) {
		return nil, withExit(exitUsage, fmt.Errorf("--key %s: write transit:NAME", f.key))
	}
	c, err := readConfig(&f.config, p.environ)
	if err != nil {
		return nil, err
	}
	if name == c.Keys.Vault.KeyPrefix+signingKey {
		return nil, withExit(exitUsage, fmt.Errorf("--key %s: that key signs tokens; make one for bundles", f.key))
	}
	client, err := newVaultClient(c.Keys.Vault, vault.Options{Now: p.now})
	if err != nil {
		return nil, withExit(exitUsage, fmt.Errorf("keys.vault: %w", err))
	}
	backend, err := transit.New(client, transit.Options{Mount: c.Keys.Vault.Mount})
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	return f.remote(ctx, backend, name, sign)
}

// remote gives the signer of the newest version of a key, and exports its public
// key.
func (f *ringKeyFlags) remote(ctx context.Context, b keys.Backend, name string, sign *signFlags) (*signature.Signer, error) {
	key, err := b.Describe(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at key %s: %w", name, err)
	}
	o := signature.SignerOptions{Algorithm: signature.Algorithm(sign.algorithm), KeyID: sign.keyID, Scope: sign.scope}
	if o.KeyID == "" {
		o.KeyID = jose.KeyID(name, key.Latest)
	}
	public, err := publicPEM(key)
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	if o.Algorithm == "" {
		if o.Algorithm, err = signature.AlgorithmFor(public); err != nil {
			return nil, withExit(exitUsage, fmt.Errorf("key %s: %w", name, err))
		}
	}
	method, err := jose.NewMethod(keys.Algorithm(o.Algorithm))
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	signer, err := signature.NewRemoteSigner(method, jose.Key{Context: ctx, Ring: bareKeys{b}, ID: name, Version: key.Latest}, o)
	if err != nil {
		return nil, withExit(exitUsage, err)
	}
	if f.public != "" {
		if err := durable.WriteFile(f.public, public, 0o644); err != nil {
			return nil, withExit(exitUsage, err)
		}
	}
	return signer, nil
}

// publicPEM gives the public key of the newest version.
func publicPEM(key keys.Key) ([]byte, error) {
	for _, v := range key.Versions {
		if v.Number != key.Latest || v.Public == nil {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(v.Public)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", key.Name, err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
	}
	return nil, fmt.Errorf("key %s is of type %s and has no public key; make one with type=ecdsa-p256", key.Name, key.Type)
}

// bareKeys are keys without a ring around them, for a command that is no server.
type bareKeys struct{ keys.Backend }

// Key implements jose.Ring.
func (b bareKeys) Key(ctx context.Context, id string) (keys.Info, error) {
	key, err := b.Describe(ctx, id)
	return keys.Info{Key: key}, err
}
