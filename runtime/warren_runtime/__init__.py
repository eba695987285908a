"""What every service needs: settings, logs, health and metrics, task supervision, listeners."""
