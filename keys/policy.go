package keys

import (
	"fmt"
	"time"
)

// Ranges of a policy.
const (
	MinRotationDays = 1
	MaxRotationDays = 365
	MaxCacheMinutes = 1440
)

// Policy is what a classification asks of its key.
type Policy struct {
	// Algorithm of the key that wraps data keys: AES256 or RSA4096.
	Algorithm Type `json:"algorithm"`
	// RotationDays is the age at which the key is rotated, in days of 24
	// hours. An older version goes on decrypting.
	RotationDays int `json:"rotation_days"`
	// RequireKeyEscrow: the key must be recoverable from escrow.
	RequireKeyEscrow bool `json:"require_key_escrow"`
	// AllowKeyCaching: data keys may be kept in memory after a call. It has no
	// effect for top_secret, whose data keys are never kept.
	AllowKeyCaching bool `json:"allow_key_caching"`
	// MaxCacheTimeMinutes is how long a data key is kept at most; 0: not at all.
	MaxCacheTimeMinutes int `json:"max_cache_time_minutes"`
}

// Policies has the policy of each classification.
type Policies map[Class]Policy

// DefaultPolicies gives the policies that hold where nothing else is
// configured.
func DefaultPolicies() Policies {
	return Policies{
		Public:       {Algorithm: AES256, RotationDays: 365, AllowKeyCaching: true, MaxCacheTimeMinutes: 120},
		Internal:     {Algorithm: AES256, RotationDays: 180, AllowKeyCaching: true, MaxCacheTimeMinutes: 60},
		Confidential: {Algorithm: AES256, RotationDays: 90, RequireKeyEscrow: true, AllowKeyCaching: true, MaxCacheTimeMinutes: 30},
		Restricted:   {Algorithm: AES256, RotationDays: 30, RequireKeyEscrow: true},
		TopSecret:    {Algorithm: RSA4096, RotationDays: 7, RequireKeyEscrow: true},
	}
}

// ParseType reads the algorithm of a policy: "aes256-gcm96" or "rsa-4096", or
// one of the names that other frameworks have for them: "aes_256_gcm",
// "aes-256-gcm", "rsa_4096", in lower or upper case.
func ParseType(name string) (Type, error) {
	switch name {
	case string(AES256), "aes_256_gcm", "AES_256_GCM", "aes-256-gcm", "AES-256-GCM":
		return AES256, nil
	case string(RSA4096), "rsa_4096", "RSA_4096", "RSA-4096":
		return RSA4096, nil
	case "fernet", "FERNET", "rsa_2048", "RSA_2048", string(RSA2048), "RSA-2048":
		return "", fmt.Errorf("%s is for reading imported fields only; write %s or %s", name, AES256, RSA4096)
	}
	return "", fmt.Errorf("%q is no algorithm; write %s or %s", bounded(name), AES256, RSA4096)
}

// Validate tells what is wrong with the policy.
func (p Policy) Validate() error {
	switch {
	case p.Algorithm != AES256 && p.Algorithm != RSA4096:
		return fmt.Errorf("algorithm %q: want %s or %s", bounded(string(p.Algorithm)), AES256, RSA4096)
	case p.RotationDays < MinRotationDays || p.RotationDays > MaxRotationDays:
		return fmt.Errorf("rotation_days %d: want %d to %d", p.RotationDays, MinRotationDays, MaxRotationDays)
	case p.MaxCacheTimeMinutes < 0 || p.MaxCacheTimeMinutes > MaxCacheMinutes:
		return fmt.Errorf("max_cache_time_minutes %d: want 0 to %d", p.MaxCacheTimeMinutes, MaxCacheMinutes)
	}
	return nil
}

// rotation is the age at which a key is rotated.
func (p Policy) rotation() time.Duration { return time.Duration(p.RotationDays) * 24 * time.Hour }

// keeps is how long a data key of the class may stay in memory; 0: not longer
// than the call.
func (p Policy) keeps(c Class) time.Duration {
	if !p.AllowKeyCaching || c == TopSecret {
		return 0
	}
	return time.Duration(p.MaxCacheTimeMinutes) * time.Minute
}

// complete gives a policy for each class: those given, the default for others.
func (p Policies) complete() (Policies, error) {
	all := DefaultPolicies()
	for c, policy := range p {
		if _, ok := all[c]; !ok {
			return nil, fmt.Errorf("policy for %v: no such classification", c)
		}
		if err := policy.Validate(); err != nil {
			return nil, fmt.Errorf("policy for %v: %w", c, err)
		}
		all[c] = policy
	}
	return all, nil
}
