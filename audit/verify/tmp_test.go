package verify_test
import ("testing";"github.com/verdict-pdp/verdict/audit/verify";"github.com/verdict-pdp/verdict/internal/surgeon")
func BenchmarkTmpJSON(b *testing.B){ rec:=surgeon.Sample(12345);t0:=cpuTime(b); for b.Loop(){ verify.ValidJSON(rec)}; b.ReportMetric(float64((cpuTime(b)-t0).Nanoseconds())/float64(b.N),"cpu-ns/op") }
