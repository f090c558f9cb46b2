"""Run configurations, one YAML file per run; `load_config` finds them by name."""
