package bundles_test

import (
	"errors"
	"testing"

	"github.com/verdict-pdp/verdict/bundles"
)

// TestWatch: whoever watches is told of each change of the set, and finds it.
func TestWatch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	none := func() {
		t.Helper()
		_, _, err := b.Watch(t.Context(), "app")
		if refused, ok := errors.AsType[*bundles.Error](err); !ok || refused.Code != bundles.CodeNotFound {
			t.Errorf("nothing is active: %v", err)
		}
	}
	none()
	var changed <-chan struct{}
	wants := func(revision string) {
		t.Helper()
		if changed != nil {
			select {
			case <-changed:
			default:
				t.Errorf("nobody is told of %s", revision)
			}
		}
		found, next, err := b.Watch(t.Context(), "app")
		if err != nil {
			t.Fatal(err)
		}
		if found.Revision != revision || found.Status != bundles.StatusActive || found.Archive.SHA256 == "" {
			t.Errorf("finds %+v, want %s", found, revision)
		}
		select {
		case <-next:
			t.Errorf("told of a change after %s", revision)
		default:
		}
		changed = next
	}
	b.mustPush("app", files(t, app("r1")))
	wants("r1")
	b.mustPush("app", files(t, app("r2")))
	wants("r2")
	if _, err := b.Rollback(t.Context(), bundles.RollbackRequest{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	wants("r1")
	if _, err := b.Activate(t.Context(), bundles.ActivationRequest{Bundles: map[string]*string{"app": nil}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody is told that it was taken out")
	}
	none()
}
