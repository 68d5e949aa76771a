package main_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/verdict-pdp/verdict/internal/servertest"
)

// job is one of a pipeline on the page: its scripts, each with its variables.
type job struct {
	scripts []string
	env     []map[string]string
}

var expression = regexp.MustCompile(`\$\{\{ (.*?) \}\}`)

// pipelines reads the jobs of docs/pipelines.md. Variables keep their
// expressions.
func pipelines(t *testing.T) (github, gitlab map[string]job) {
	t.Helper()
	page, err := os.ReadFile("../../docs/pipelines.md")
	if err != nil {
		t.Fatal(err)
	}
	github, gitlab = map[string]job{}, map[string]job{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		var workflow struct {
			Jobs map[string]struct {
				Env   map[string]string
				Steps []struct {
					Run string
					Env map[string]string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(block[1]), &workflow); err != nil {
			t.Fatal(err)
		}
		for name, j := range workflow.Jobs {
			var found job
			for _, step := range j.Steps {
				if step.Run == "" {
					continue
				}
				if expression.MatchString(step.Run) {
					t.Errorf("an expression within a script can bring commands: %s", step.Run)
				}
				env := maps.Clone(step.Env)
				if env == nil {
					env = map[string]string{}
				}
				maps.Copy(env, j.Env)
				found.scripts, found.env = append(found.scripts, step.Run), append(found.env, env)
			}
			github[name] = found
		}
		if len(workflow.Jobs) > 0 {
			continue
		}
		var nodes map[string]yaml.Node
		if err := yaml.Unmarshal([]byte(block[1]), &nodes); err != nil {
			t.Fatal(err)
		}
		for name, node := range nodes {
			var j struct{ Script []string }
			if node.Kind == yaml.MappingNode && node.Decode(&j) == nil && len(j.Script) > 0 {
				gitlab[name] = job{scripts: []string{strings.Join(j.Script, "\n")}, env: []map[string]string{nil}}
			}
		}
	}
	return github, gitlab
}

// runner runs jobs in a checkout, with the variables of a CI system.
type runner struct {
	t       *testing.T
	dir     string
	jobs    map[string]job
	values  map[string]string // of expressions
	environ map[string]string
}

// run runs a job to its first script that fails, as the CI systems do, and
// gives the exit code.
func (r *runner) run(name string) (output string, code int) {
	r.t.Helper()
	j, ok := r.jobs[name]
	if !ok || len(j.scripts) == 0 {
		r.t.Fatalf("the page has no job %s", name)
	}
	for i, script := range j.scripts {
		cmd := exec.Command("bash", "-e", "-o", "pipefail", "-c", script)
		cmd.Dir, cmd.Env = r.dir, servertest.Environ()
		for key, value := range r.environ {
			cmd.Env = append(cmd.Env, key+"="+value)
		}
		for key, value := range j.env[i] {
			cmd.Env = append(cmd.Env, key+"="+expression.ReplaceAllStringFunc(value, func(e string) string {
				known, ok := r.values[expression.FindStringSubmatch(e)[1]]
				if !ok {
					r.t.Errorf("job %s: what is %s?", name, e)
				}
				return known
			}))
		}
		out, err := cmd.CombinedOutput()
		output += string(out)
		if exited, ok := errors.AsType[*exec.ExitError](err); ok {
			return output, exited.ExitCode()
		} else if err != nil {
			r.t.Fatal(err)
		}
	}
	return output, 0
}

// want runs a job that must end with the code and say all of parts.
func (r *runner) want(name string, code int, parts ...string) {
	r.t.Helper()
	out, got := r.run(name)
	if got != code {
		r.t.Fatalf("job %s ends with %d, want %d:\n%s", name, got, code, out)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			r.t.Errorf("job %s does not say %q:\n%s", name, part, out)
		}
	}
}

// commit writes a policy that allows the user, and a test of one who is to be.
func (r *runner) commit(sha, user, tested string) {
	r.t.Helper()
	r.environ["GITHUB_SHA"], r.environ["CI_COMMIT_SHA"] = sha, sha
	for name, text := range map[string]string{
		".manifest":      `{"roots": ["shop"]}`,
		"shop.rego":      fmt.Sprintf("package shop\n\ndefault allow := false\n\nallow if input.user == %q\n", user),
		"shop_test.rego": fmt.Sprintf("package shop_test\n\ntest_allow if data.shop.allow with input as {\"user\": %q}\n", tested),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, "policy", name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestPipelines runs the jobs of docs/pipelines.md against a server that wants
// signatures.
func TestPipelines(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skipf("the page needs bash: %v", err)
	}
	github, gitlab := pipelines(t)
	for system, jobs := range map[string]map[string]job{"GitHub Actions": github, "GitLab CI": gitlab} {
		t.Run(system, func(t *testing.T) {
			t.Parallel()
			if len(jobs) != 3 {
				t.Fatalf("%d jobs on the page, and 3 are run here", len(jobs))
			}
			dir := t.TempDir()
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			keyPair(t, dir, private, public)
			config := filepath.Join(dir, "verdict.yaml")
			text := "bundles:\n  verification_keys:\n    - {id: ci, algorithm: EdDSA, file: " + filepath.Join(dir, "public.pem") + ", names: [shop]}\n"
			if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.Mkdir(filepath.Join(dir, "policy"), 0o755)); err != nil {
				t.Fatal(err)
			}
			key, err := os.ReadFile(filepath.Join(dir, "private.pem"))
			if err != nil {
				t.Fatal(err)
			}
			s := servertest.Start(t, servertest.Options{Args: []string{"--config", config}})
			r := &runner{t: t, dir: dir, jobs: jobs}
			r.values = map[string]string{
				"vars.VERDICT_SERVER": s.URL, "secrets.VERDICT_TOKEN": s.AdminToken(), "secrets.SIGNING_KEY": string(key), "inputs.revision": "",
			}
			r.environ = map[string]string{"RUNNER_TEMP": t.TempDir()}
			if system == "GitLab CI" {
				maps.Copy(r.environ, map[string]string{"VERDICT_SERVER": s.URL, "VERDICT_TOKEN": s.AdminToken(), "SIGNING_KEY": filepath.Join(dir, "private.pem")})
			}
			allowed := func(user string) {
				t.Helper()
				if a := s.Decide("shop/allow", map[string]any{"user": user}); !strings.Contains(string(a.Body), `"result":true`) {
					t.Errorf("%s is not allowed: %s", user, a.Body)
				}
			}

			r.commit("1111111", "ada", "ada")
			r.want("check", 0, "1 passed, 0 failed")
			r.want("deploy", 0, "shop 1111111 is active\n")
			r.want("deploy", 0, "shop 1111111 was active already")
			allowed("ada")
			r.commit("2222222", "bob", "bob")
			r.want("deploy", 0, "shop 2222222 is active, 1111111 was before", "~ data.shop.allow")
			allowed("bob")
			r.commit("3333333", "eve", "bob")
			r.want("check", 1, "1 of 1 tests failed")
			r.want("deploy", 1, "refused by the gate tests")
			allowed("bob")
			r.want("rollback", 0, "shop 1111111 is active, 2222222 was before")
			allowed("ada")
			r.commit("2222222", "bob", "bob")
			r.want("deploy", 1, "refused by the gate history", "revision_past")
			r.values["inputs.revision"], r.environ["REVISION"] = "2222222", "2222222"
			r.want("rollback", 0, "shop 2222222 is active, 1111111 was before")
			allowed("bob")
		})
	}
}
