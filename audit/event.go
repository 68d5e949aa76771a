package audit

// The events that the security framework's document names, 33 in all.
const (
	EventLoginSuccess   = "login_success"
	EventLoginFailure   = "login_failure"
	EventLogout         = "logout"
	EventPasswordChange = "password_change"
	EventMFAEnabled     = "mfa_enabled"
	EventMFADisabled    = "mfa_disabled"

	EventPermissionGranted = "permission_granted"
	EventPermissionDenied  = "permission_denied"
	EventRoleAssigned      = "role_assigned"
	EventRoleRevoked       = "role_revoked"

	EventDataRead   = "data_read"
	EventDataCreate = "data_create"
	EventDataUpdate = "data_update"
	EventDataDelete = "data_delete"
	EventDataExport = "data_export"
	EventDataImport = "data_import"

	EventUserCreated     = "user_created"
	EventUserUpdated     = "user_updated"
	EventUserDeleted     = "user_deleted"
	EventUserSuspended   = "user_suspended"
	EventUserReactivated = "user_reactivated"

	EventConfigChange   = "config_change"
	EventServiceStart   = "service_start"
	EventServiceStop    = "service_stop"
	EventBackupCreated  = "backup_created"
	EventBackupRestored = "backup_restored"

	EventSecurityViolation  = "security_violation"
	EventIntrusionDetected  = "intrusion_detected"
	EventKeyRotation        = "key_rotation"
	EventCertificateRenewal = "certificate_renewal"

	EventGDPRRequest          = "gdpr_request"
	EventDataRetentionApplied = "data_retention_applied"
	EventAuditLogAccess       = "audit_log_access"
)

// Our own events.
const (
	// EventDecisionEvaluated is a decision whose result is no boolean.
	EventDecisionEvaluated = "decision_evaluated"
	// EventDecisionError is a decision whose evaluation ended in an error.
	EventDecisionError = "decision_error"
	// EventDecisionPreviewed is no decision: it tells what one would be with other
	// policies, data or facts.
	EventDecisionPreviewed = "decision_previewed"

	// EventAccessRefused is a call to verdict itself that was refused.
	EventAccessRefused = "access_refused"
	// EventTokenCreated and EventTokenRevoked are changes of the callers' tokens.
	EventTokenCreated = "token_created"
	EventTokenRevoked = "token_revoked"

	// EventPolicyWrite and EventPolicyDelete are OPA-style policy writes.
	EventPolicyWrite  = "policy_write"
	EventPolicyDelete = "policy_delete"

	// The life of a bundle.
	EventBundlePushed     = "bundle_pushed"
	EventBundleRefused    = "bundle_refused"
	EventBundleActivated  = "bundle_activated"
	EventBundleRolledBack = "bundle_rolled_back"
	// EventBundleConfirmed is a stale bundle that was found to be current.
	EventBundleConfirmed = "bundle_confirmed"
	// A revision that is tried beside the active one.
	EventBundleStaged   = "bundle_staged"
	EventBundleUnstaged = "bundle_unstaged"
	// EventBundleSource is a source of a bundle that begins to fail, or answers
	// again; the outcome says which.
	EventBundleSource = "bundle_source"

	// The life of a key of the ring, beside key_rotation.
	EventKeyCreated        = "key_created"
	EventKeyRotationFailed = "key_rotation_failed"
	EventKeyScheduled      = "key_rotation_scheduled"
	EventKeyCompromised    = "key_compromised"
	EventKeyRetired        = "key_retired"
	EventKeyChangeFailed   = "key_change_failed"
	EventKeyOpeningFailed  = "key_opening_failed"
	// Escrow: a version is wrapped to the escrow key, its packages are given to
	// somebody, shares come to recover a key, and the key is back.
	EventKeyEscrowed          = "key_escrowed"
	EventKeyEscrowExported    = "key_escrow_exported"
	EventKeyRecoveryShares    = "key_recovery_shares"
	EventKeyRecoveryRefused   = "key_recovery_refused"
	EventKeyRecoveryCancelled = "key_recovery_cancelled"
	EventKeyRecovered         = "key_recovered"
	// EventMasterRotated: the key ring in the data folder gets another master
	// key.
	EventMasterRotated = "master_key_rotated"
	// EventReencryptionStarted and EventReencryptionEnded are of the jobs that
	// encrypt the values of a key anew.
	EventReencryptionStarted = "reencryption_started"
	EventReencryptionEnded   = "reencryption_ended"
	// EventVaultState is that Vault can be used or cannot any more;
	// EventVaultTokenLost that it refused our token before its time.
	EventVaultState     = "vault_state"
	EventVaultTokenLost = "vault_token_lost"

	// The life of certificates, beside certificate_renewal.
	EventCertificateIssued   = "certificate_issued"
	EventCertificateRefused  = "certificate_issue_refused"
	EventCertificateExpiring = "certificate_expiring"
	EventCertificateRevoked  = "certificate_revoked"
	// EventCertificateTrust is that other authorities or revocation lists hold for
	// client certificates, or that they could not be read.
	EventCertificateTrust = "certificate_trust_changed"

	// EventGenesis is record 0 of every log.
	EventGenesis = "system.genesis"
	// EventStart is the first record of every run.
	EventStart = "system.start"
	// EventShutdown is the last record of a run that ended cleanly.
	EventShutdown = "system.shutdown"
	// EventClockStep is the first record whose time is not comparable with that of
	// the record before it, because the wall clock was set.
	EventClockStep = "system.clock_step"
)

// KnownEvent tells whether the name is one of the Event constants.
func KnownEvent(name string) bool {
	switch name {
	case EventPermissionGranted, EventPermissionDenied, EventDecisionEvaluated, EventDecisionError, EventDecisionPreviewed,
		EventRoleAssigned, EventRoleRevoked,
		EventLoginSuccess, EventLoginFailure, EventLogout, EventPasswordChange, EventMFAEnabled, EventMFADisabled,
		EventDataRead, EventDataCreate, EventDataUpdate, EventDataDelete, EventDataExport, EventDataImport,
		EventUserCreated, EventUserUpdated, EventUserDeleted, EventUserSuspended, EventUserReactivated,
		EventConfigChange, EventServiceStart, EventServiceStop, EventBackupCreated, EventBackupRestored,
		EventSecurityViolation, EventIntrusionDetected, EventKeyRotation, EventCertificateRenewal,
		EventGDPRRequest, EventDataRetentionApplied, EventAuditLogAccess,
		EventAccessRefused, EventTokenCreated, EventTokenRevoked, EventPolicyWrite, EventPolicyDelete,
		EventBundlePushed, EventBundleRefused, EventBundleActivated, EventBundleRolledBack,
		EventBundleConfirmed, EventBundleStaged, EventBundleUnstaged, EventBundleSource,
		EventKeyCreated, EventKeyRotationFailed, EventKeyScheduled, EventKeyCompromised, EventKeyRetired,
		EventKeyChangeFailed, EventKeyOpeningFailed, EventKeyEscrowed, EventKeyEscrowExported, EventKeyRecoveryShares,
		EventKeyRecoveryRefused, EventKeyRecoveryCancelled, EventKeyRecovered, EventMasterRotated, EventReencryptionStarted, EventReencryptionEnded, EventVaultState, EventVaultTokenLost,
		EventCertificateIssued, EventCertificateRefused, EventCertificateExpiring, EventCertificateRevoked, EventCertificateTrust,
		EventGenesis, EventStart, EventShutdown, EventClockStep:
		return true
	}
	return false
}
