"""Operations and energy."""
