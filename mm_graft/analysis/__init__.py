"""What the layers learnt: functions of any module and loss."""
